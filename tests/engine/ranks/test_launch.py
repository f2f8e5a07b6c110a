"""Whole jobs that two processes share: their files, their failures, their ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from modelpress.engine.architectures.registry import build
from modelpress.engine.ranks.launch import count_processes, failure_of_end, first_to_end
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Progress, StageDone
from modelpress.spec.failure import FailureKind, IncompatibleSpec
from modelpress.spec.task import TASK_FILE, Compress
from service.settings import Settings
from tests.support.patience import until
from tests.support.work_folder import ARCHITECTURE, WorkFolder
from worker.child import Child, engine_environment
from worker.engine_run import was_killed
from worker.reach import walls_for
from worker.starter import Spawner

TRAINING = {"epochs": 2, "batch_size": 50, "precision": "fp32"}


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def task(folder: WorkFolder, **training: Any) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(ArchitectureRef.model_validate(ARCHITECTURE))
    return {
        "kind": "compress",
        "model": folder.put_model(module),
        "dataset": folder.put_dataset(),
        "recipe": {
            "steps": [{"kind": "prune", "sparsity": 0.5, "training": TRAINING | training}],
            "artifacts": ["compact"],
        },
        "device": "cpu",
        "threads": 1,
        "processes": 2,
    }


def processes_on(folder: Path) -> list[psutil.Process]:
    """Every process that names the folder in its command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def sabotage(monkeypatch: pytest.MonkeyPatch, folder: Path, rank: int, code: str) -> None:
    """Have one rank's process run `code` in the place of its first forward pass."""
    (folder / "sitecustomize.py").write_text(
        "import os, signal\n"
        f"if os.environ.get('RANK') == '{rank}':\n"
        "    from modelpress.engine.ranks import follower\n"
        "    def accumulate(*arguments):\n"
        f"        {code}\n"
        "    follower.accumulate = accumulate\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.slow
def test_a_job_that_two_processes_share(folder: WorkFolder):
    run = folder.run(task(folder))
    assert run.returncode == 0, run.stdout
    assert folder.names() == {"events.jsonl", "report.json", "model_card.md", "artifacts"}
    (stage,) = folder.report.stages
    assert stage.training is not None
    assert stage.training.processes == 2
    assert stage.training.steps == 2 * 5  # 240 images in batches of 50
    events = folder.events
    assert [event.stage for event in events if isinstance(event, StageDone)] == ["baseline", "step", "final"]
    assert isinstance(events[-1], Progress)
    assert events[-1].stage == "done"
    lines = [line.partition("INFO ")[2].strip() for line in run.stdout.splitlines()]
    assert [lines.count(line) for line in ("loading", "step 1 of 1 (prune)", "verification", "done")] == [1, 1, 1, 1]
    assert processes_on(folder.path) == []


@pytest.mark.slow
def test_what_befalls_a_follower_is_the_failure_of_the_job(
    folder: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sabotage(monkeypatch, tmp_path, 1, "raise MemoryError")
    run = folder.run(task(folder))
    assert run.returncode == 1, run.stdout
    assert folder.failure.kind is FailureKind.OUT_OF_MEMORY
    assert "process 1 of 2 trained along; lower `training.batch_size` (now" in folder.failure.message
    assert "Traceback" not in run.stdout
    assert processes_on(folder.path) == []


@pytest.mark.slow
def test_a_follower_that_is_killed_ends_the_engine_as_if_it_had_been_killed(
    folder: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sabotage(monkeypatch, tmp_path, 1, "os.kill(os.getpid(), signal.SIGKILL)")
    run = folder.run(task(folder))
    assert was_killed(folder.path, run.returncode), run.stdout  # which another attempt follows, from the checkpoint
    assert "process 1 of 2 was killed from outside" in run.stdout
    assert "Traceback" not in run.stdout
    assert processes_on(folder.path) == []


@pytest.mark.slow
def test_the_failure_of_the_leader_is_the_failure_of_the_job(folder: WorkFolder):
    run = folder.run(task(folder, learning_rate=10.0, epochs=8, momentum=0.99))
    assert run.returncode == 1, run.stdout
    assert folder.failure.kind is FailureKind.DIVERGED
    assert folder.failure.step == 0
    assert folder.artifacts == set()
    assert processes_on(folder.path) == []


def wait_for_training(folder: WorkFolder) -> None:
    events = folder.path / "events.jsonl"
    until(lambda: events.exists() and '"epoch":1' in events.read_text(), seconds=120)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_who_ends_the_engine_ends_all_of_its_processes(folder: WorkFolder, number: signal.Signals, code: int):
    (folder.path / TASK_FILE).write_text(json.dumps(task(folder, epochs=10_000)))
    engine = subprocess.Popen(
        [sys.executable, "-m", "modelpress.engine", str(folder.path)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_training(folder)
        assert len(processes_on(folder.path)) == 3
        engine.send_signal(number)
        assert engine.wait(30) == code
        until(lambda: processes_on(folder.path) == [], seconds=30)
    finally:
        for process in processes_on(folder.path):
            process.kill()


@pytest.mark.slow
def test_a_worker_ends_all_processes_of_its_engine(folder: WorkFolder):
    """As on a cancel: the ranks have sessions of their own. While they work no other machine can reach them."""
    asked = task(folder, epochs=10_000)
    (folder.path / TASK_FILE).write_text(json.dumps(asked))
    child = Child(
        Spawner((sys.executable, "-m", "modelpress.engine")),
        folder.path,
        environment=engine_environment(folder.path, threads=1),
        file_bytes=1 << 30,
        cpu_seconds=600,
        log_bytes=1 << 20,
        # Shut in as a worker does it: the processes reach each other, and nothing else.
        walls=walls_for(folder.path, Compress.model_validate(asked), Settings(home=folder.path.parent)),
    )
    try:
        wait_for_training(folder)
        sockets = [socket for process in processes_on(folder.path) for socket in process.net_connections("all")]
        assert {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    finally:
        child.end()
    assert processes_on(folder.path) == []


@pytest.mark.parametrize(
    ("codes", "first"),
    [
        ({0: -15, 1: -9}, (1, -9)),
        ({0: 1, 2: -9}, (2, -9)),
        ({0: 1, 1: -15, 2: 3}, (2, 3)),
        ({0: -11, 1: 1, 2: -15}, (0, -11)),
        ({1: 1}, (1, 1)),
    ],
)
def test_whose_end_was_that_of_the_others(codes: dict[int, int], first: tuple[int, int]):
    assert first_to_end(codes) == first


def test_the_end_of_a_process_that_says_nothing_is_told_by_its_code():
    failure = failure_of_end(2, 3, processes=4)
    assert failure.kind is FailureKind.INTERNAL
    assert "process 2 of 4 ended with code 3" in failure.message


def asked(batch_size: int = 128, **fields: Any) -> Compress:
    return Compress.model_validate(
        {
            "model": {"path": "m", "format": "pt", "architecture": ARCHITECTURE, "sha256": "0"},
            "recipe": {"steps": [{"kind": "finetune", "training": {"batch_size": batch_size}}]},
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("gpus", "task", "processes"),
    [
        (0, asked(), 1),
        (0, asked(processes=3), 3),
        (1, asked(), 1),
        (4, asked(), 4),
        (4, asked(device="cpu"), 1),
        (4, asked(processes=1), 1),
        (4, asked(processes=3), 3),
        (8, asked(batch_size=128), 4),  # 32 images each
        (8, asked(batch_size=8), 1),
        (8, asked(batch_size=8, processes=8), 8),
        (4, asked(recipe={"steps": [{"kind": "prune", "sparsity": 0.5}]}, processes=4), 1),  # nothing to share
    ],
)
def test_one_process_for_each_gpu_as_long_as_each_gets_enough_images(
    monkeypatch: pytest.MonkeyPatch, gpus: int, task: Compress, processes: int
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert count_processes(task) == processes


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(IncompatibleSpec, match="3 processes were asked for, and torch sees 2 GPUs here"):
        count_processes(asked(processes=3))
