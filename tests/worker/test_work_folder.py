"""Work folders: fresh, locked while their worker lives, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker.work_folder import clear_leftovers, work_folder

HOLD = """
import sys, time
from pathlib import Path
from worker.work_folder import work_folder
with work_folder(Path(sys.argv[1]), "job_1-1") as folder:
    (folder / "file").write_text("x")
    print("held", flush=True)
    time.sleep(600)
"""


def _fill(folder) -> None:
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0)
    (folder / "link").symlink_to("/")


def test_it_is_fresh_private_and_removed_with_whatever_is_in_it(tmp_path):
    (tmp_path / "job_1-1").mkdir()
    (tmp_path / "job_1-1" / "old").write_text("of a dead process")
    with work_folder(tmp_path, "job_1-1") as folder:
        assert [path.name for path in folder.iterdir()] == ["inputs"]
        _fill(folder)
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), work_folder(tmp_path, "job_1-1"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_only_folders_of_dead_workers_are_cleared(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert clear_leftovers(tmp_path) == []
        assert (tmp_path / "job_1-1" / "file").exists()
        holder.kill()
    assert clear_leftovers(tmp_path) == ["job_1-1"]
    assert list(tmp_path.iterdir()) == []


def test_there_may_be_no_folder_yet(tmp_path):
    assert clear_leftovers(tmp_path / "work") == []
    assert not os.path.lexists(tmp_path / "work")
