"""Fill the secrets of an example environment with random ones: `python deploy/new_env.py .env.example .env`."""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path


def fill(example: str) -> str:
    """The example with a secret in every empty assignment. Secrets are hex digits, which need no quoting in a URL."""
    # Garage wants its key ids to begin with GK.
    with_ids = re.sub(
        r"^(\w*ACCESS_KEY_ID)=$", lambda found: f"{found[1]}=GK{secrets.token_hex(16)}", example, flags=re.M
    )
    return re.sub(r"^(\w+)=$", lambda found: f"{found[1]}={secrets.token_hex(32)}", with_ids, flags=re.M)


def main(source: Path, target: Path) -> None:
    """Write `target`, readable by its owner alone; an existing one is never touched."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(fill(source.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
