"""Where the service is, and with which key: what was said, then the environment, then what an embedded service left.

An embedded service (`make serve`) writes two files into its home when it starts: `address` and `api-key`.
This is the one place of the client that reads the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from modelpress.client.errors import NotConfigured

ADDRESS_FILE = "address"
KEY_FILE = "api-key"


@dataclass(frozen=True)
class Address:
    """A service and the key to it. The key never shows in its repr."""

    url: str
    key: str = field(repr=False)


def default_home() -> Path:
    """Folder of the embedded service: `MODELPRESS_HOME`, else `~/.local/share/modelpress`."""
    home = os.environ.get("MODELPRESS_HOME")
    return Path(home).expanduser() if home else Path.home() / ".local" / "share" / "modelpress"


def find_address(url: str | None = None, key: str | None = None) -> Address:
    """Complete what was given from `MODELPRESS_URL`, `MODELPRESS_API_KEY` and the home of an embedded service.

    Raises NotConfigured when either is still missing. A key found in the home is only used for the address found
    there, so that it is never sent to another server.
    """
    home = default_home()
    url = url or os.environ.get("MODELPRESS_URL")
    key = key or os.environ.get("MODELPRESS_API_KEY")
    local_url = _read(home / ADDRESS_FILE)
    if url is None:
        url = local_url
    if url is None:
        raise NotConfigured(
            "no service is known: start one with `make serve`, or set MODELPRESS_URL "
            f"(there is no {home / ADDRESS_FILE})"
        )
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(f"the address {url!r} is not a URL; write it as http://host:port or https://host")
    if key is None and local_url is not None and url == local_url.rstrip("/"):
        key = _read(home / KEY_FILE)
    if key is None:
        raise NotConfigured(f"no API key is known for {url}: set MODELPRESS_API_KEY to a key of your team")
    return Address(url, key)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
