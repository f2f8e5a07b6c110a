"""What is looked at while an engine runs: the room that its files take up, and its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelpress.spec.failure import FailureKind
from tests.support.deep_folders import DEEP, LONG, clear, nest, open_files
from tests.support.service import child_environment
from worker.limits import DEEPEST, Limits, LimitWatch, Unmeasurable, disk_usage

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "work"
    made.mkdir()
    yield made
    clear(made)


def watch(folder: Path, *, memory_bytes: int = 1 << 50, disk_bytes: int = 1 << 50) -> LimitWatch:
    return LimitWatch(Limits(memory_bytes, disk_bytes, 0, 1000.0), folder)


def test_files_count_however_long_the_path_to_them_is(folder: Path) -> None:
    before = disk_usage(folder)
    nest(folder, DEEPEST, content=os.urandom(MIB))
    assert disk_usage(folder) - before >= MIB
    breach = watch(folder, disk_bytes=MIB).breach(list)
    assert breach is not None
    assert breach.kind == FailureKind.OUT_OF_DISK
    assert "its files grew" in breach.message


@pytest.mark.parametrize("depth", [DEEPEST + 1, DEEP])
def test_folders_that_lie_deeper_than_anybody_looks_are_over_the_limit(folder: Path, depth: int) -> None:
    opened = open_files()
    nest(folder, depth)
    with pytest.raises(Unmeasurable, match=f"more than {DEEPEST} deep"):
        disk_usage(folder)
    assert open_files() == opened
    breach = watch(folder).breach(list)
    assert breach is not None
    assert breach.kind == FailureKind.OUT_OF_DISK
    assert breach.message.startswith(f"it made folders in folders, more than {DEEPEST} deep, so that nobody knows")


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    nest(tmp_path / "elsewhere", 1, content=os.urandom(MIB))
    (tmp_path / "own").mkdir()
    before = disk_usage(tmp_path / "own")
    (tmp_path / "own" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own" / "file").symlink_to(tmp_path / "elsewhere" / LONG / "file")
    assert disk_usage(tmp_path / "own") - before < MIB


def test_what_is_removed_meanwhile_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "going").mkdir()
    (tmp_path / "file").write_bytes(os.urandom(MIB))
    real = os.open

    def remove_first(path: str, *arguments: int, **options: int) -> int:
        if path == "going":
            (tmp_path / "going").rmdir()
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", remove_first)
    assert disk_usage(tmp_path) >= MIB


# As a user who may not look closer at a process that has forbidden it; root may.
HIDDEN = """
import os, struct, sys
from pathlib import Path
import psutil
from service.jail import capabilities as has
from service.jail.machine import prctl
from worker.limits import Limits, LimitWatch
has.system_call(has._CAPSET, struct.pack("=Ii", has._VERSION, 0), bytes(24))  # none
child = os.fork()
if child == 0:
    memory = bytearray(os.urandom(64 << 20))
    prctl(4, 0)  # PR_SET_DUMPABLE
    os.kill(os.getpid(), 19)
os.waitpid(child, os.WUNTRACED)
process = psutil.Process(child)
try:
    process.memory_full_info()
except psutil.AccessDenied:
    print("hidden")
try:
    print(LimitWatch(Limits(32 << 20, 1 << 50, 0, 1000.0), Path(sys.argv[1])).breach(lambda: [process]).kind.value)
finally:
    process.kill()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes hide themselves on Linux")
def test_a_process_that_hides_its_memory_has_all_of_it_counted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, str(tmp_path)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hidden\nout_of_memory\n"), done.stderr


def test_a_process_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        gone = psutil.Process(process.pid)
    assert watch(tmp_path, memory_bytes=0).breach(lambda: [gone]) is None
