"""Each wall around an engine, tried from inside: children as the worker starts them, with the launcher between.

A started engine and one that is forked from a zygote must meet the same.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from modelpress.spec.job import Recipe
from modelpress.spec.steps import Finetune, Quantize
from modelpress.spec.task import Compress, ModelFile
from modelpress.spec.training import Recovery
from service.jail import bubblewrap
from service.jail.walls import available_walls
from service.settings import Settings
from tests.support import code_engine
from tests.support.deep_folders import open_files
from tests.support.rows import ARCHITECTURE
from tests.support.service import child_environment
from tests.worker import jailed_script
from tests.worker.conftest import wait_for
from worker import reach
from worker.child import Child, engine_environment
from worker.engine_run import read_failure
from worker.reach import exposed, may_be_shared, walls_for
from worker.starter import Spawner, Started, Starter
from worker.zygote import Forker

FOUND = available_walls()
# On a machine without them the rest of the jail is all there is, and the settings say what then.
needs_landlock = pytest.mark.skipif(FOUND.landlock == 0, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not FOUND.seccomp, reason="this kernel takes no filters of system calls")

SECRET = "MODELPRESS_S3_SECRET_ACCESS_KEY"


def _task(*, processes: int | None = None, trains: bool = True) -> Compress:
    step = Finetune(training=Recovery(epochs=1)) if trains else Quantize()
    return Compress(
        model=ModelFile(path="inputs/model", format="safetensors", architecture=ARCHITECTURE, sha256="0" * 64),
        recipe=Recipe(steps=(step,)),
        device="cpu",
        processes=processes,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "home" / "work" / "job-1"
    made.mkdir(parents=True)
    return made


Way = Callable[[ModuleType], Starter]


needs_bubblewrap = pytest.mark.skipif(not bubblewrap.works(), reason="no Bubblewrap here, or it does not work")
STARTED, FORKED = ("started", False), ("forked", False)
WRAPPED = [
    pytest.param((way, True), id=f"{way} in Bubblewrap", marks=needs_bubblewrap) for way in ("started", "forked")
]


@pytest.fixture(params=[pytest.param(STARTED, id="started"), pytest.param(FORKED, id="forked"), *WRAPPED])
def way(request: pytest.FixtureRequest, folder: Path) -> Iterator[Way]:
    """How an engine of this module begins."""
    how, is_wrapped = request.param
    with ExitStack() as ends:

        def make(module: ModuleType) -> Starter:
            is_forked = how == "forked"
            inside = bubblewrap.inside(folder.parent, ends_with_parent=not is_forked) if is_wrapped else ()
            if not is_forked:
                return Spawner(_command(module), inside)
            environment = engine_environment(Path(os.devnull), threads=1)
            return ends.enter_context(closing(Forker(module.__name__, environment, inside)))

        yield make


def _command(module: ModuleType) -> tuple[str, ...]:
    assert module.__file__ is not None
    return (sys.executable, str(Path(module.__file__).resolve()))


def _start(
    way: Way,
    module: ModuleType,
    folder: Path,
    *,
    cpu_seconds: int = 60,
    task: Compress | None = None,
    **settings: object,
) -> Child:
    read = Settings(home=folder.parents[1], engine_command=_command(module), **settings)
    return Child(
        way(module),
        folder,
        environment=engine_environment(folder, threads=1),
        file_bytes=1 << 20,
        cpu_seconds=cpu_seconds,
        log_bytes=1 << 20,
        walls=walls_for(folder, task, read),
    )


def _start_code(way: Way, folder: Path, code: str, **options: int) -> Child:
    (folder / "code.py").write_text(code)
    return _start(way, code_engine, folder, **options)


def _tried(
    way: Way, folder: Path, tries: dict[str, list], *, task: Compress | None = None, **settings: object
) -> dict[str, str | None]:
    """How each try went inside."""
    (folder / "tries.json").write_text(json.dumps(tries))
    child = _start(way, jailed_script, folder, task=task, **settings)
    try:
        code = child.wait(60)
    finally:
        child.end()
    log = (folder / "log.txt").read_text()
    assert code == 0, log
    return json.loads(log.splitlines()[-1])


@needs_landlock
def test_only_the_work_folder_and_the_code_can_be_reached(folder: Path, way: Way) -> None:
    home = folder.parents[1]
    other = home / "work" / "job-2"
    other.mkdir()
    for path in (home / "api-key", home / "modelpress.db", other / "report.json", folder / "own"):
        path.write_text("content")
    (folder / "leads_out").symlink_to(home / "api-key")
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    tries = {
        "own file": ["read", str(folder / "own")],
        "own new file": ["write", str(folder / "new")],
        "own link": ["symlink", "anywhere", str(folder / "link")],
        "code": ["read", str(Path(jailed_script.__file__).parents[2] / "modelpress" / "__init__.py")],
        "null": ["write", "/dev/null"],
        "key": ["read", str(home / "api-key")],
        "key through a link": ["read", str(folder / "leads_out")],
        "key through the launcher": ["read", f"/proc/{os.getpid()}/root{home / 'api-key'}"],
        "database": ["write", str(home / "modelpress.db")],
        "home": ["list", str(home)],
        "other job": ["read", str(other / "report.json")],
        "remove": ["remove", str(home / "api-key")],
        "new file": ["write", str(home / "new")],
        "code changed": ["write", str(Path(jailed_script.__file__).resolve())],
        "worker's environment": ["read", f"/proc/{os.getpid()}/environ"],
        "memory": ["write", f"/proc/{os.getpid()}/mem"],
        "shared memory": ["write", "/dev/shm/modelpress-test"],  # noqa: S108
        "upload executed": ["execute", str(folder / "program")],
    }
    found = _tried(way, folder, tries)
    open_to_it = {name for name, error in found.items() if error is None}
    assert open_to_it == {"own file", "own new file", "own link", "code", "null"}
    assert set(found.values()) <= {None, "EACCES", "EROFS"}
    assert (home / "api-key").read_text() == "content"
    assert not (home / "new").exists()


@pytest.mark.skipif(FOUND.landlock < 6, reason="this kernel's Landlock has no scopes")
def test_no_process_outside_can_be_signalled(folder: Path, way: Way) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        found = _tried(way, folder, {"worker": ["signal", os.getpid()], "bystander": ["signal", bystander.pid]})
        bystander.kill()
    assert found == {"worker": "EPERM", "bystander": "EPERM"}


@pytest.mark.parametrize("way", WRAPPED, indirect=True)
def test_in_bubblewrap_other_files_cannot_be_changed_in_any_way(folder: Path, way: Way) -> None:
    """Modes and times of the user's own files, which Landlock leaves to it."""
    database = folder.parents[1] / "modelpress.db"
    database.write_text("content")
    (folder / "own").write_text("content")
    before = database.stat()
    tries = {
        "mode": ["chmod", str(database), 0],
        "times": ["times", str(database)],
        "own mode": ["chmod", str(folder / "own"), 0o600],
        "own times": ["times", str(folder / "own")],
    }
    found = _tried(way, folder, tries)
    assert found == {"mode": "EROFS", "times": "EROFS", "own mode": None, "own times": None}
    assert database.stat() == before


@pytest.mark.parametrize("way", WRAPPED, indirect=True)
def test_in_bubblewrap_system_vs_memory_is_another(folder: Path, way: Way) -> None:
    code = "import os; print(os.readlink('/proc/self/ns/ipc'), os.readlink('/proc/self/ns/uts'))"
    child = _start_code(way, folder, code)
    assert child.wait(60) == 0
    child.end()
    ours = {str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("ipc", "uts")}
    assert not ours & set((folder / "log.txt").read_text().splitlines()[-1].split())


@pytest.mark.parametrize("way", WRAPPED, indirect=True)
@pytest.mark.parametrize("killed", ["all", "outer"])
@pytest.mark.usefixtures("adopts")
def test_in_bubblewrap_nothing_is_left_of_what_was_killed(folder: Path, way: Way, killed: str) -> None:
    child = _start_code(way, folder, "import time; print('up', flush=True); time.sleep(600)")
    log = folder / "log.txt"
    wait_for(lambda: log.exists() and "up" in log.read_text(), "the engine")
    started = child.tree()
    assert len(started) >= 2
    if killed == "outer":
        started[0].kill()
    child.end()
    assert [process for process in started if process.is_running()] == []


@needs_seccomp
def test_calls_that_an_engine_has_no_use_for_are_refused(folder: Path, way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tries = {
            "connect": ["connect", "127.0.0.1", server.getsockname()[1]],
            "inet": ["socket", int(socket.AF_INET)],
            "inet6": ["socket", int(socket.AF_INET6)],
            "unix": ["socket", int(socket.AF_UNIX)],
            "netlink": ["socket", 16],
            "packet": ["socket", 17],
            "io_uring": ["call", "io_uring_setup", 1, 0],
            "user namespace": ["call", "unshare", 0x1000_0000],
            "cloned namespace": ["call", "clone", 0x1000_0000 | signal.SIGCHLD, 0, 0, 0, 0],
            "mount": ["call", "mount", 0, 0, 0, 0, 0],
            "ptrace": ["call", "ptrace", 16, 1, 0, 0],
            "bpf": ["call", "bpf", 0, 0, 0],
            "clone3": ["call", "clone3", 0, 0],
            "inotify": ["call", "inotify_init1", 0],
            "fanotify": ["call", "fanotify_mark", 0, 0, 0, 0, 0],
            "memory file": ["call", "memfd_create", 0, 0],
            "secret memory": ["call", "memfd_secret", 0],
            "socketpair": ["socketpair"],
            "thread": ["thread"],
            "fork": ["fork"],
        }
        found = _tried(way, folder, tries)
    assert {name for name, error in found.items() if error is None} == {"socketpair", "thread", "fork"}
    assert found["clone3"] == "ENOSYS"
    assert {error for name, error in found.items() if name != "clone3"} == {None, "EPERM"}


# A process that the kernel would let an engine slow down: of the same user, and with no more rights.
BYSTANDER = """
import time
from service.jail import capabilities
capabilities.drop()
print("up", flush=True)
time.sleep(60)
"""
NOBODY = 0x7FFF_FFF0  # user id that no process has


@needs_seccomp
def test_nobody_else_can_be_slowed_down(folder: Path, way: Way) -> None:
    processor = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", BYSTANDER]
    with subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE) as bystander:
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == b"up\n"
        other, before = bystander.pid, _standing(bystander.pid)
        tries = {
            "own processor": ["pin", 0, processor],
            "own thread's processors": ["pin thread"],
            "own policy": ["policy", 0],
            "own parameters": ["parameters", 0],
            "own priority": ["priority", os.PRIO_PROCESS, 0],
            "own order of reading": ["call", "ioprio_set", 1, 0, 3 << 13],
            "processor": ["pin", other, processor],
            "policy": ["policy", other],
            "parameters": ["parameters", other],
            "attributes": ["call", "sched_setattr", other, 0, 0],
            "priority": ["priority", os.PRIO_PROCESS, other],
            "group's priority": ["priority", os.PRIO_PGRP, 0],
            "user's priority": ["priority", os.PRIO_USER, NOBODY],
            "order of reading": ["call", "ioprio_set", 1, other, 3 << 13],
            "user's order of reading": ["call", "ioprio_set", 3, NOBODY, 3 << 13],
        }
        try:
            found = _tried(way, folder, tries)
            assert _standing(other) == before
        finally:
            bystander.kill()
    # No filter can tell whose a thread is: that one call says it was done.
    done = {name for name in tries if name.startswith("own ")} | {"processor"}
    assert found == {name: None if name in done else "EPERM" for name in tries}


def _standing(pid: int) -> tuple[object, ...]:
    process = psutil.Process(pid)
    return os.sched_getaffinity(pid), os.sched_getscheduler(pid), process.nice(), process.ionice()


@needs_seccomp
def test_an_engine_with_gpus_may_make_memory_files(folder: Path, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA does not start without."""
    monkeypatch.setattr(reach, "_gpu_devices", lambda: ("/dev/nvidiactl",))
    (folder / "code.py").write_text("import os; os.memfd_create('name')")
    for device, code in (("auto", 0), ("cpu", 1)):
        child = _start(way, code_engine, folder, task=_task().model_copy(update={"device": device}))
        assert child.wait(60) == code
        child.end()


@needs_seccomp
def test_processes_that_share_a_training_can_speak_over_loopback(folder: Path, way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tries = {
            "connect": ["connect", "127.0.0.1", server.getsockname()[1]],
            "packet": ["socket", 17],
            "io_uring": ["call", "io_uring_setup", 1, 0],
        }
        found = _tried(way, folder, tries, task=_task(processes=2))
    assert found == {"connect": None, "packet": "EPERM", "io_uring": "EPERM"}


def test_who_gets_sockets() -> None:
    assert may_be_shared(_task(processes=2), 0)
    assert may_be_shared(_task().model_copy(update={"device": "auto"}), 2)
    assert not may_be_shared(_task().model_copy(update={"device": "auto"}), 1)
    assert not may_be_shared(_task(), 2)  # on the processor one process is the default
    assert not may_be_shared(_task(processes=1), 2)
    assert not may_be_shared(_task(processes=2, trains=False), 2)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to lose")
def test_root_is_left_no_rights_beyond_reading(folder: Path, way: Way) -> None:
    code = "print(open('/proc/self/status').read())"
    child = _start_code(way, folder, code)
    assert child.wait(60) == 0
    child.end()
    lines = dict(line.split(":\t", 1) for line in (folder / "log.txt").read_text().splitlines() if ":\t" in line)
    assert {name: int(lines[name], 16) for name in ("CapInh", "CapAmb")} == {"CapInh": 0, "CapAmb": 0}
    assert {int(lines[name], 16) & ~0b10 for name in ("CapPrm", "CapEff", "CapBnd")} == {0}  # bit 1: CAP_DAC_OVERRIDE
    assert lines["NoNewPrivs"] == "1"
    assert lines["Seccomp"] == ("2" if FOUND.seccomp else "0")


def test_a_grandchild_in_a_session_of_its_own_is_gone_afterwards(folder: Path, way: Way) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    child = _start_code(way, folder, code)
    assert child.wait(60) == 0
    child.end()
    assert not psutil.pid_exists(int((folder / "log.txt").read_text().splitlines()[-1]))


def test_processor_time_ends_by_the_kernels_own_clock(folder: Path, way: Way) -> None:
    child = _start_code(way, folder, "while True: pass", cpu_seconds=1)
    code = child.wait(60)
    child.end()
    assert code == 128 + signal.SIGXCPU
    assert read_failure(folder, code).kind == "timeout"


def test_off_means_no_walls(folder: Path, way: Way) -> None:
    (folder.parents[1] / "api-key").write_text("content")
    tries = {"key": ["read", str(folder.parents[1] / "api-key")], "inet": ["socket", int(socket.AF_INET)]}
    assert _tried(way, folder, tries, jail="off") == {"key": None, "inet": None}


class _Hasty(Spawner):
    """Starts engines that are quicker than the worker."""

    def __init__(self, module: ModuleType, leads_to: Path) -> None:
        super().__init__(_command(module))
        self._leads_to = leads_to

    def start(self, folder: Path, **options: Any) -> Started:
        """The engine's own link stands where the log would, before the worker's next step."""
        started = super().start(folder, **options)
        log = folder / "log.txt"
        log.unlink(missing_ok=True)
        log.symlink_to(self._leads_to)
        return started


def test_no_link_leads_the_log_out_of_the_folder(folder: Path) -> None:
    database = folder.parents[1] / "modelpress.db"
    database.write_text("content")
    child = _start_code(lambda module: _Hasty(module, Path("../../modelpress.db")), folder, "print('hello')")
    assert child.wait(60) == 0
    child.end()
    assert database.read_text() == "content"


def test_the_log_is_made_anew_and_private(folder: Path, way: Way) -> None:
    database = folder.parents[1] / "modelpress.db"
    database.write_text("content")
    log = folder / "log.txt"
    log.symlink_to(database)
    child = _start_code(way, folder, "print('hello')")
    assert child.wait(60) == 0
    child.end()
    assert database.read_text() == "content"
    assert not log.is_symlink()
    assert log.read_text() == "hello\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_no_engine_starts_without_a_log(folder: Path) -> None:
    """And what was opened for it is closed."""
    (folder / "log.txt").mkdir()
    opened = open_files()
    with pytest.raises(OSError, match=r"log\.txt"):
        _start_code(lambda module: Spawner(_command(module)), folder, "")
    assert open_files() == opened


def test_further_paths_can_be_read(folder: Path, way: Way) -> None:
    further = folder.parents[1] / "data"
    further.mkdir()
    (further / "table").write_text("content")
    tries = {"table": ["read", str(further / "table")]}
    assert _tried(way, folder, tries, jail_readable=(further,)) == {"table": None}
    if FOUND.landlock:
        tries["change"] = ["write", str(further / "table")]
        found = _tried(way, folder, tries, jail_readable=(further,))
        assert found["table"] is None
        assert found["change"] in {"EACCES", "EROFS"}


def test_a_data_folder_that_engines_can_read_is_noticed(tmp_path: Path) -> None:
    assert exposed(Settings(home=tmp_path / "home")) == []
    assert exposed(Settings(home=tmp_path / "home", jail_readable=(tmp_path,))) == [str(tmp_path)]


def test_a_worker_says_what_its_engines_get(embedded_site) -> None:
    site = embedded_site
    with site.start_worker():
        wait_for(lambda: "worker_started" in site.log(), "the worker", explain=site.log)
    line = next(line for line in site.log().splitlines() if "jail" in line)
    assert "mode=auto" in line
    assert f"landlock={FOUND.landlock}" in line
    assert f"seccomp={FOUND.seccomp}" in line
    assert f"bubblewrap={bubblewrap.works()}" in line
