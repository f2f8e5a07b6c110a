"""A process that reads hostile files as API and engine do, and notes what came of each.

`python -m tests.hostile.inspector FOLDER` takes the list FOLDER/files.jsonl of {"number", "door"}, whose bytes are in
FOLDER/files/NUMBER, and appends one line for each to FOLDER/results.jsonl: "refused" with the type of the error, or
"taken", or "broken" with an error of no known type; its seconds; and what it did that a reader never does. Each is
read as if it had passed the quick look, too: the engine does not rely on the API.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from api.sniff import sniff_dataset, sniff_model
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.formats.load import load_network
from modelpress.engine.inspect_model import inspect_model
from modelpress.spec.cores import CPU_LIMIT
from modelpress.spec.failure import CompressionError
from modelpress.spec.task import ModelFile
from tests.hostile import good

# Address space beyond what the libraries take, so that a bomb shows as an error.
_ROOM_BYTES = 3 << 30
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn"),
    *("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ftplib.connect"),
    *("pickle.find_class", "ctypes.dlopen", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link"),
    *("os.chmod", "os.chown", "os.putenv", "shutil.rmtree", "webbrowser.open", "code.__new__"),
)


class Watch:
    """Python's own audit events (PEP 578) while a file is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.is_armed = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_armed:
            return
        if event in _FORBIDDEN or (event == "exec" and getattr(arguments[0], "co_filename", "") in ("<string>", "<>")):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, mode, flags = arguments
            changes = any(letter in (mode or "") for letter in "wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if changes or not self._may_read(path):
                self.seen.append(f"open {path!r} {mode} {flags}")

    def _may_read(self, path: Any) -> bool:
        # Libraries load parts of themselves when they are first needed, and each core has a thread that decodes.
        return isinstance(path, int) or str(os.fsdecode(path)).startswith(
            (self._folder, sys.prefix, sys.base_prefix, _CODE, str(CPU_LIMIT))
        )


_CODE = str(Path(good.__file__).parents[2])


def read(door: str, path: Path, *, is_sniffed: bool) -> None:
    """As that door does. Raises CompressionError."""
    if door == "dataset":
        if is_sniffed:
            sniff_dataset(path)
        inspect_dataset(path)
    elif door == "model":
        form = sniff_model(path) if is_sniffed else ("pt" if path.read_bytes()[:2] == b"PK" else "safetensors")
        file = ModelFile(path=path.name, format=form, architecture=good.ARCHITECTURE, sha256="0" * 64)
        inspect_model(file, path.parent)
    elif door == "graph":
        form = sniff_model(path) if is_sniffed else ("pt2" if path.read_bytes()[:2] == b"PK" else "onnx")
        inspect_model(ModelFile(path=path.name, format=form, sha256="0" * 64), path.parent)
    else:
        load_network(path)


def outcome(door: str, path: Path, *, is_sniffed: bool) -> tuple[str, str]:
    """What became of it, and the error's type and words."""
    try:
        read(door, path, is_sniffed=is_sniffed)
    except CompressionError as error:
        return "refused", f"{error.kind.value}: {error.message}"
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        return "broken", f"{type(error).__name__}: {error!s:.300}"
    return "taken", ""


def main() -> None:
    """Read all."""
    folder = Path(sys.argv[1]).resolve()
    watch = Watch(folder)
    sys.addaudithook(watch)
    Image.init()  # all its decoders, which it loads when one is not known
    for name, (door, content) in good.all_good().items():
        (folder / "good").write_bytes(content)
        # Twice: what libraries do only once is done then.
        for is_sniffed in (True, False):
            found = outcome(door, folder / "good", is_sniffed=is_sniffed)
            if found[0] != "taken":
                raise AssertionError(f"the good {name} is not taken: {found[1]}")
    (folder / "good").unlink()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM_BYTES, used + _ROOM_BYTES))
    files = [json.loads(line) for line in (folder / "files.jsonl").read_text().splitlines()]
    with (folder / "results.jsonl").open("a", buffering=1) as results, contextlib.suppress(BrokenPipeError):
        for file in files:
            path = folder / "files" / str(file["number"])
            watch.seen.clear()
            started = time.monotonic()
            watch.is_armed = True
            looks = [outcome(file["door"], path, is_sniffed=is_sniffed) for is_sniffed in (True, False)]
            watch.is_armed = False
            line = {"number": file["number"], "looks": looks, "seen": watch.seen}
            results.write(json.dumps({**line, "seconds": time.monotonic() - started}) + "\n")


if __name__ == "__main__":
    main()
