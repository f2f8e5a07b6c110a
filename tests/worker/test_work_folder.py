"""Work folders: fresh, locked while their worker lives, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys

import pytest

from tests.support.deep_folders import DEEP, clear, nest, open_files
from tests.support.service import child_environment
from worker import work_folder as module
from worker.work_folder import clear_leftovers, remove_folder, work_folder

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
from worker.limits import Unmeasurable, disk_usage
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
        except Unmeasurable:
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


@pytest.fixture
def few_files():
    """Fewer than there are levels."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def work(tmp_path):
    yield tmp_path / "work"
    clear(tmp_path / "work")


@pytest.mark.usefixtures("few_files")
def test_folders_in_folders_are_removed_however_deep(work):
    opened = open_files()
    with work_folder(work, "job_1-1") as folder:
        nest(folder, DEEP)
        nest(folder / "inputs", DEEP, "n")
    assert list(work.iterdir()) == []
    (work / "job_2-1").mkdir()
    nest(work / "job_2-1", DEEP)
    assert clear_leftovers(work) == ["job_2-1"]
    assert list(work.iterdir()) == []
    assert open_files() == opened


def test_the_rest_is_removed_beside_what_cannot_be(tmp_path, monkeypatch):
    """And nobody works in what is left."""
    for name in ("a/file", "stuck/kept", "stuck/file", "z/file"):
        (tmp_path / "job_1-1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "job_1-1" / name).write_text("x")
    unlink = os.unlink

    def refuse(name, **options):
        if name == "kept":
            raise PermissionError(name)
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    remove_folder(tmp_path / "job_1-1")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "job_1-1",
        "job_1-1/stuck",
        "job_1-1/stuck/kept",
    ]
    opened = open_files()
    with pytest.raises(FileExistsError), work_folder(tmp_path, "job_1-1"):
        pass
    assert open_files() == opened


def test_nothing_outside_is_removed_when_a_folder_is_moved_meanwhile(tmp_path, monkeypatch):
    """The way up from it leads elsewhere then."""
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    inner = work / "job_1-1" / "outer" / "inner"
    inner.mkdir(parents=True)
    for path in (elsewhere / "file", elsewhere / "inner" / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (elsewhere / "inner").rename(elsewhere / "other")
    remove_files = module._remove_files

    def move_then_remove(place):
        if inner.exists() and os.path.samestat(os.fstat(place), inner.stat()):
            inner.rename(elsewhere / "inner")
        return remove_files(place)

    monkeypatch.setattr(module, "_remove_files", move_then_remove)
    remove_folder(work / "job_1-1")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["file", "inner", "other"]
    monkeypatch.undo()
    remove_folder(work / "job_1-1")
    assert list(work.iterdir()) == []


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    (tmp_path / "job_1-1").symlink_to("elsewhere")
    remove_folder(tmp_path / "job_1-1")
    with pytest.raises(FileExistsError), work_folder(tmp_path, "job_1-1"):
        pass
    assert (tmp_path / "elsewhere" / "file").exists()
