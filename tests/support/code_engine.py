"""An engine that does what FOLDER/code.py says: forked from a zygote, or `python code_engine.py FOLDER`.

The code finds `folder`, and in `SEEN` the names of the folders that this process has been the engine of.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

# As a library might when it is imported.
with suppress(FileNotFoundError):  # in Bubblewrap there is none
    tempfile.gettempdir()

SEEN: list[str] = []


def main(arguments: list[str]) -> int:
    """Exit code: what the code leaves as `code`, else 0."""
    folder = Path(arguments[0])
    SEEN.append(folder.name)
    names: dict[str, object] = {"folder": folder, "SEEN": SEEN, "code": 0}
    exec((folder / "code.py").read_text(), names)  # noqa: S102  # the test's own
    return int(str(names["code"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
