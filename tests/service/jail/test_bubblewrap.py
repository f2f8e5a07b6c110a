"""What stands before a command, and how it is found out that it works: by a program of that name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jail import bubblewrap
from service.jail.bubblewrap import inside, works
from tests.support.bubblewrap import BECOME, put_bwrap


@pytest.fixture(autouse=True)
def untried() -> Iterator[None]:
    """What this process knows is forgotten, before and afterwards."""
    works.cache_clear()
    yield
    works.cache_clear()


@pytest.mark.parametrize(
    ("script", "expected"),
    [(BECOME, True), ("import sys; sys.exit('bwrap: No permissions to create a new namespace')", False)],
    ids=["works", "refused"],
)
def test_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: bool) -> None:
    put_bwrap(tmp_path, script, monkeypatch)
    assert works() is expected


def test_one_that_hangs_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_bwrap(tmp_path, "import time; time.sleep(60)", monkeypatch)
    monkeypatch.setattr(bubblewrap, "PATIENCE_SECONDS", 0.5)
    assert works() is False


def test_none_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert works() is False


@pytest.mark.skipif(not bubblewrap.works(), reason="no Bubblewrap here, or it does not work")
def test_only_one_folder_can_be_changed_in_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    run = [sys.executable, "-I", "-S", "-c", code]
    command = inside(work, ends_with_parent=True)
    assert subprocess.run([*command, *run, str(work / "file")], check=False).returncode == 0
    tried = subprocess.run([*command, *run, str(tmp_path / "file")], check=False, capture_output=True, text=True)
    assert tried.returncode == 1
    assert "Read-only file system" in tried.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
