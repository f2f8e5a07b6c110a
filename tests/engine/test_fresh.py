"""Processes forked by a server: each is fresh, tells how it ended, and none outlives whoever started the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelpress.engine.fresh import FreshProcesses
from tests.support.patience import until

MODULE = "tests.support.fresh_main"


@pytest.fixture
def processes() -> Iterator[FreshProcesses]:
    found = FreshProcesses(MODULE)
    yield found
    found.close()


def _told(path: Path) -> tuple[int, int, str]:
    """Process, its server, and what the process knew of earlier ones and read from its input."""
    pid, server, rest = path.read_text().split(maxsplit=2)
    return int(pid), int(server), rest


def test_each_runs_in_a_process_of_its_own_that_knows_nothing_of_the_others(
    processes: FreshProcesses, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        assert processes.run([str(tmp_path / name), "0"]) == 0
    first, second = _told(tmp_path / "first"), _told(tmp_path / "second")
    assert first[0] != second[0]
    assert first[1] == second[1] != os.getpid()  # one server, which alone imports
    assert first[2] == second[2] == "1 ''"


@pytest.mark.parametrize(("ending", "code"), [("0", 0), ("7", 7), ("raise", 1), ("exit", 1), ("killed", -9)])
def test_the_exit_code_comes_back_and_the_server_goes_on(
    ending: str, code: int, processes: FreshProcesses, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert processes.run([str(tmp_path / "first"), ending]) == code
    assert processes.run([str(tmp_path / "second"), "0"]) == 0
    assert _told(tmp_path / "first")[1] == _told(tmp_path / "second")[1]
    assert ("ValueError: as asked" in capfd.readouterr().err) == (ending == "raise")


def test_a_server_that_is_killed_tells_so_and_another_takes_its_place(
    processes: FreshProcesses, tmp_path: Path
) -> None:
    assert processes.run([str(tmp_path / "first"), "kill the server"]) == -9
    assert processes.run([str(tmp_path / "second"), "0"]) == 0
    assert _told(tmp_path / "first")[1] != _told(tmp_path / "second")[1]


def test_close_ends_the_server_and_a_later_run_starts_one(processes: FreshProcesses, tmp_path: Path) -> None:
    processes.close()
    processes.run([str(tmp_path / "first"), "0"])
    server = _told(tmp_path / "first")[1]
    processes.close()
    assert not psutil.pid_exists(server)
    assert processes.run([str(tmp_path / "second"), "0"]) == 0


def test_a_server_forked_here_knows_what_this_process_did_by_then_and_imports_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    code = f"""
import os, sys
from modelpress.engine.fresh import FreshProcesses
from tests.support import fresh_main
processes = FreshProcesses("a.module.that.is.not.there")
processes.fork_here(fresh_main.main)
processes.fork_here(fresh_main.main)  # there is one
fresh_main.SEEN.append("afterwards")
sys.stdout.write("once")  # what is not flushed yet is not written by the copies too
assert processes.run([{str(first)!r}, "0"]) == 0
assert processes.run([{str(second)!r}, "7"]) == 7
assert len(open(f"/proc/self/task/{{os.getpid()}}/children").read().split()) == 1
processes.close()
assert open(f"/proc/self/task/{{os.getpid()}}/children").read() == ""
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once", "")
    assert _told(first)[1] == _told(second)[1]
    assert _told(first)[2] == _told(second)[2] == "1 ''"


@pytest.mark.parametrize("how", ["fork_here(fresh_main.main)", "close()"], ids=["forked", "spawned"])
def test_the_server_ends_with_whoever_started_it(how: str, tmp_path: Path) -> None:
    code = f"""
import os, signal
from modelpress.engine.fresh import fresh_processes
from tests.support import fresh_main
fresh_processes({MODULE!r}).{how}
assert fresh_processes({MODULE!r}) is fresh_processes({MODULE!r})
fresh_processes({MODULE!r}).run([{str(tmp_path / "told")!r}, "0"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    server = _told(tmp_path / "told")[1]
    until(lambda: not psutil.pid_exists(server))
