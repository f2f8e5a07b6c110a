"""Folders in folders, deeper than a path can name or Python's stack is deep."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# A path of a few of these is longer than the kernel takes.
LONG = "n" * 255

# One call of Python, or one open file, for each level would be more than there may be.
DEEP = 1_100


def nest(folder: Path, depth: int, name: str = LONG, content: bytes = b"x") -> None:
    """Lay so many folders in each other, with a file and a link in the last. To be cleared by `clear`."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    with open("file", "wb", opener=lambda name, flags: os.open(name, flags, 0o600, dir_fd=here)) as file:
        file.write(content)
    os.symlink("/", "link", dir_fd=here)
    os.close(here)


def clear(folder: Path) -> None:
    """Remove a folder that pytest, which calls itself for each level, could not."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def open_files() -> set[str]:
    """The numbers of this process's open files."""
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names are wanted
