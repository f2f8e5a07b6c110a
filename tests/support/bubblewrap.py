"""A `bwrap` of ours, by which code finds out whether Bubblewrap works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BECOME = "import os, sys; after = sys.argv[sys.argv.index('--') + 1:]; os.execv(after[0], after)"
"""One that works, and shuts nothing in."""


def put_bwrap(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the only program in the search path."""
    program = folder / "bwrap"
    program.write_text(f"#!{sys.executable} -ISs\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
