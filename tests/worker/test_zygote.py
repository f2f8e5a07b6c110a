"""Engines forked from a zygote: each is fresh, shut in, told of, and none outlives launcher, zygote or worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import code_engine
from tests.support.patience import until
from worker import child as child_module
from worker import zygote as zygote_module
from worker.child import Child, engine_environment
from worker.starter import Starter
from worker.zygote import Forker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are for Linux")

# Starts a process in a session of its own, and tells its process id and the engine's.
SPAWN = """
import os, pathlib, subprocess, time
grandchild = subprocess.Popen(["sleep", "600"], start_new_session=True)
(folder / "new").write_text(f"{os.getpid()} {grandchild.pid}")
(folder / "new").rename(folder / "pids")
"""
SPAWN_AND_STAY = SPAWN + "time.sleep(600)\n"


def forker(module: str = code_engine.__name__) -> Forker:
    return Forker(module, {**engine_environment(Path(os.devnull), threads=1), "OF_THE_ZYGOTE": "1"})


def child_of(starter: Starter, folder: Path, code: str = "", *, silence_seconds: float | None = None) -> Child:
    folder.mkdir(exist_ok=True)
    (folder / "code.py").write_text(code)
    return Child(
        starter,
        folder,
        environment={**engine_environment(folder, threads=1), "OF": folder.name},
        file_bytes=1 << 20,
        cpu_seconds=60,
        log_bytes=1 << 20,
        walls=None,
        silence_seconds=silence_seconds,
    )


def run(starter: Starter, folder: Path, code: str) -> tuple[int | None, str]:
    """Exit code and log."""
    child = child_of(starter, folder, code)
    try:
        ended = child.wait(30)
    finally:
        child.end()
    return ended, (folder / "log.txt").read_text()


def pids_of(folder: Path) -> list[int]:
    until((folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def starter(adopts: None) -> Iterator[Forker]:  # set up first
    made = forker()
    yield made
    made.close()


def test_an_engine_finds_itself_as_a_started_one_would(starter: Forker, tmp_path: Path) -> None:
    code = """
import json, os, signal, sys, tempfile
print(json.dumps({
    "environment": dict(os.environ), "cwd": os.getcwd(), "open": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "input": sys.stdin.read(), "temporary": tempfile.gettempdir(), "is_leader": os.getsid(0) == os.getppid(),
    "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "ignored": [int(n) for n in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM) if signal.getsignal(n) != 0],
    "core": __import__("resource").getrlimit(4), "oom": open("/proc/self/oom_score_adj").read().strip(),
    "name": open("/proc/self/comm").read().strip(), "seen": SEEN,
}))
"""
    folder = tmp_path / "job-1"
    ended, log = run(starter, folder, code)
    assert ended == 0, log
    assert json.loads(log) == {
        "environment": {**engine_environment(folder, threads=1), "OF": "job-1"},
        "cwd": str(folder),
        "open": [0, 1, 2],
        "input": "",
        "temporary": str(folder / "tmp"),
        "is_leader": True,
        "blocked": [],
        "ignored": [],
        "core": [0, 0],
        "oom": "500",
        "name": "engine",
        "seen": ["job-1"],
    }


def test_engines_of_one_zygote_know_nothing_of_each_other(starter: Forker, tmp_path: Path) -> None:
    code = "import os, random; print(SEEN, random.random(), os.stat('/proc/self').st_ino)"
    first, second = (run(starter, tmp_path / name, code)[1].split() for name in ("first", "second"))
    assert (first[0], second[0]) == ("['first']", "['second']")
    assert first[1] != second[1]  # Python's generator is seeded anew
    assert len(starter.kept) == 1


@pytest.mark.parametrize(
    ("code", "ended", "said"),
    [
        ("code = 7", 7, ""),
        ("print('last words'); raise ValueError('as asked')", 1, "ValueError: as asked"),
        ("import sys; sys.exit(3)", 3, ""),
        ("import os; print('last', end=''); os.kill(os.getpid(), 9)", 137, ""),
        ("import os; os.kill(os.getppid(), 15)", 143, ""),
        ("import os; os.kill(os.getppid(), 9); __import__('time').sleep(60)", -9, ""),
    ],
)
def test_its_end_is_told_and_the_zygote_goes_on(
    starter: Forker, tmp_path: Path, code: str, ended: int, said: str
) -> None:
    found, log = run(starter, tmp_path / "first", code)
    assert found == ended, log
    assert said in log
    before = starter.kept
    assert run(starter, tmp_path / "second", "print('all done')") == (0, "all done\n")
    assert starter.kept == before


def test_end_leaves_nothing_and_releases_the_process_id(starter: Forker, tmp_path: Path) -> None:
    child = child_of(starter, tmp_path / "job", SPAWN_AND_STAY)
    pids = pids_of(tmp_path / "job")
    launcher = child.pid
    assert launcher is not None
    assert {process.pid for process in child.tree()} == {launcher, *pids}
    child.end()
    assert not any(map(psutil.pid_exists, [launcher, *pids]))
    assert child.wait(0) == 143


def test_the_process_id_means_no_other_process_before(starter: Forker, tmp_path: Path) -> None:
    child = child_of(starter, tmp_path / "job")
    assert child.wait(30) == 0
    assert child.pid is not None
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    child.end()
    assert not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("victim", ["launcher", "zygote"])
def test_one_that_is_killed_takes_all_below_along(starter: Forker, tmp_path: Path, victim: str) -> None:
    child = child_of(starter, tmp_path / "first", SPAWN_AND_STAY)
    pids = pids_of(tmp_path / "first")
    assert child.pid is not None
    (zygote,) = starter.kept
    os.kill(child.pid if victim == "launcher" else zygote, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    until(lambda: is_gone(pids[0]))  # the engine itself needs nobody for that
    child.end()
    assert not any(map(psutil.pid_exists, [child.pid, *pids]))
    assert run(starter, tmp_path / "second", "print('all done')") == (0, "all done\n")
    assert (starter.kept == {zygote}) == (victim == "launcher")


def test_an_idle_zygote_that_was_killed_is_replaced(starter: Forker, tmp_path: Path) -> None:
    starter.prepare()
    (zygote,) = starter.kept
    os.kill(zygote, signal.SIGKILL)
    until(lambda: is_gone(zygote))  # one that is dying would take the job along
    assert run(starter, tmp_path / "job", "print('all done')") == (0, "all done\n")
    assert starter.kept != {zygote}


def test_all_of_it_ends_with_the_worker(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from tests.worker.test_zygote import SPAWN_AND_STAY, child_of, forker
starter = forker()
child = child_of(starter, Path({str(tmp_path / "job")!r}), SPAWN_AND_STAY)
while child.pid is None: time.sleep(0.01)
print(child.pid, *starter.kept, flush=True)
child.wait(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as worker:
        assert worker.stdout is not None
        found = [*map(int, worker.stdout.readline().split()), *pids_of(tmp_path / "job")]
        assert len(found) == 4
        worker.kill()
    until(lambda: all(map(is_gone, found)))


def test_the_engine_of_a_silent_worker_ends(starter: Forker, tmp_path: Path) -> None:
    child = child_of(starter, tmp_path / "job", SPAWN_AND_STAY, silence_seconds=1)
    pids = pids_of(tmp_path / "job")
    until(lambda: all(map(is_gone, pids)))  # nobody calls `wait`
    assert child.wait(10) == 137
    child.end()


def test_a_worker_that_waits_is_not_silent(starter: Forker, tmp_path: Path) -> None:
    child = child_of(starter, tmp_path / "job", "import time; time.sleep(7)", silence_seconds=3)
    begun = time.monotonic()
    while (code := child.wait(0.2)) is None and time.monotonic() < begun + 30:
        pass
    child.end()
    assert code == 0


def test_a_module_that_cannot_be_loaded_is_told_in_the_log(tmp_path: Path) -> None:
    starter = forker("tests.support.no_such_engine")
    for name in ("first", "second"):
        ended, log = run(starter, tmp_path / name, "")
        assert ended == 1
        assert "No module named tests.support.no_such_engine" in log
    starter.close()


def test_an_end_does_not_wait_for_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PATIENCE_SECONDS", 40)
    starter = forker("tests.support.slow_engine")
    begun = time.monotonic()
    child = child_of(starter, tmp_path / "job")
    (zygote,) = starter.kept
    assert child.pid is None
    assert child.tree() == []
    assert child.wait(0.1) is None
    child.end()
    assert child.wait(0) == -signal.SIGKILL
    assert time.monotonic() < begun + 20
    assert not psutil.pid_exists(zygote)
    starter.close()


def test_a_frozen_zygote_keeps_no_child_from_its_end(
    starter: Forker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (child_module, zygote_module):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    child = child_of(starter, tmp_path / "job", SPAWN_AND_STAY)
    pids = pids_of(tmp_path / "job")
    (zygote,) = starter.kept
    os.kill(zygote, signal.SIGSTOP)
    child.end()
    assert not any(map(psutil.pid_exists, [zygote, *pids]))


def test_nor_one_that_has_ended_and_is_not_reaped(
    starter: Forker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_module, "PATIENCE_SECONDS", 0.3)
    child = child_of(starter, tmp_path / "job")
    assert child.wait(30) == 0
    (zygote,) = starter.kept
    os.kill(zygote, signal.SIGSTOP)
    child.end()
    assert child.pid is not None
    assert is_gone(child.pid)
    os.kill(zygote, signal.SIGCONT)


def test_a_closed_one_is_gone() -> None:
    starter = forker("tests.support.slow_engine")
    starter.prepare()
    (zygote,) = starter.kept
    starter.close()
    starter.close()
    assert starter.kept == frozenset()
    assert not psutil.pid_exists(zygote)
