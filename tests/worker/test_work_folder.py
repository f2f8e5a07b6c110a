"""Work folders: fresh, locked while their worker lives, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from tests.support.service import child_environment
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


# Root may look into everything: this is what others may do.
AS_ANOTHER = """
import struct, sys
from pathlib import Path
from service.jail import capabilities as has
from worker.limits import disk_usage
from worker.work_folder import work_folder
has.system_call(has._CAPSET, struct.pack("=Ii", has._VERSION, 0), bytes(24))  # none
for mode in (0, 0o300, 0o700):
    with work_folder(Path(sys.argv[1]), "job_1-1") as folder:
        inner = folder / "closed" / "inner"
        inner.mkdir(parents=True)
        (inner / "file").write_text("x")
        disk_usage(folder)
        inner.chmod(0 if mode < 0o700 else 0o400)  # its names can be read, and nothing of the files
        inner.parent.chmod(mode)
        try:
            disk_usage(folder)
        except PermissionError:
            print("over every limit")
"""


def test_what_hides_its_files_is_over_the_limit_and_removed_all_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(tmp_path)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over every limit\n" * 3), done.stderr
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


def test_a_folder_that_could_not_be_removed_at_its_end_is_cleared(tmp_path):
    """Its lock is gone; it is found all the same, and a file beside it is not ours."""
    (tmp_path / "job_1-1" / "inputs").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    assert clear_leftovers(tmp_path) == ["job_1-1"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_folder_of_who_comes_next_is_left(tmp_path, monkeypatch):
    """The lock that was opened is that of a worker which ended just then: another holds the place by now."""
    (tmp_path / "job_1-1.lock").touch()
    flock = fcntl.flock

    def end_and_begin_anew(lock, operation):
        flock(lock, operation)
        if not (tmp_path / "job_1-1").exists():
            (tmp_path / "job_1-1.lock").rename(tmp_path / "ended")
            (tmp_path / "job_1-1.lock").touch()
            (tmp_path / "job_1-1").mkdir()

    monkeypatch.setattr(fcntl, "flock", end_and_begin_anew)
    assert clear_leftovers(tmp_path) == []
    assert (tmp_path / "job_1-1").is_dir()


def test_there_may_be_no_folder_yet(tmp_path):
    assert clear_leftovers(tmp_path / "work") == []
    assert not os.path.lexists(tmp_path / "work")
