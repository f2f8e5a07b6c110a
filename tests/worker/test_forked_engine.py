"""The real engine, forked: it does what a started one does, to the last bit, and inherits nothing that matters."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.task import TASK, TASK_FILE, Compress
from service.jail import bubblewrap
from service.settings import ENGINE_COMMAND, Settings
from tests.support import loaded_engine
from tests.support.bubblewrap import BECOME, put_bwrap
from tests.support.latency import LATENCY_SECONDS
from tests.support.work_folder import ARCHITECTURE, WorkFolder
from worker.child import Child, engine_environment
from worker.choose_starter import choose_starter
from worker.reach import walls_for
from worker.starter import Spawner, Starter
from worker.zygote import Forker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are for Linux")


def _job(folder: WorkFolder) -> dict[str, Any]:
    torch.manual_seed(0)
    training = {"epochs": 1, "batch_size": 64, "precision": "fp32"}
    return {
        "kind": "compress",
        "model": folder.put_model(build(ArchitectureRef.model_validate(ARCHITECTURE))),
        "dataset": folder.put_dataset(),
        "recipe": {
            "steps": [{"kind": "prune", "sparsity": 0.5, "training": training}],
            "artifacts": ["compact", "onnx"],
        },
        "device": "cpu",
        "latency_seconds": LATENCY_SECONDS,
    }


def _run(starter: Starter, folder: WorkFolder, task: dict[str, Any]) -> None:
    (folder.path / TASK_FILE).write_text(json.dumps(task))
    asked = TASK.validate_python(task)
    child = Child(
        starter,
        folder.path,
        environment=engine_environment(folder.path, threads=1),
        file_bytes=1 << 30,
        cpu_seconds=600,
        log_bytes=1 << 20,
        walls=walls_for(folder.path, asked if isinstance(asked, Compress) else None, Settings(home=folder.path.parent)),
    )
    try:
        code = child.wait(300)
    finally:
        child.end()
    assert code == 0, (folder.path / "log.txt").read_text()[-3000:]


@pytest.mark.slow
def test_a_job_comes_to_the_same_files_as_in_a_started_engine(tmp_path: Path) -> None:
    started, forked, inspected = (WorkFolder(tmp_path / "work" / name) for name in ("started", "forked", "inspected"))

    # In Bubblewrap, where it works, the one as the other.
    def inside(*, ends_with_parent: bool) -> tuple[str, ...]:
        made = bubblewrap.inside(tmp_path / "work", ends_with_parent=ends_with_parent)
        return made if bubblewrap.works() else ()

    _run(Spawner(ENGINE_COMMAND, inside(ends_with_parent=True)), started, _job(started))
    environment = engine_environment(Path(os.devnull), threads=1)
    with closing(Forker(loaded_engine.__name__, environment, inside(ends_with_parent=False))) as starter:
        task = _job(inspected)
        _run(starter, inspected, {"kind": "inspect_model", "model": task["model"]})
        _run(starter, forked, _job(forked))
    for name in ("model.mpz", "model.onnx"):
        assert forked.sha256(f"artifacts/{name}") == started.sha256(f"artifacts/{name}")
    assert forked.report.final.accuracy == started.report.final.accuracy
    assert inspected.inspection["num_classes"] == 4
    for folder in (inspected, forked):
        loaded = json.loads((folder.path / "loaded.json").read_text())
        assert loaded["now"] == {"cuda": False, "threads": 1}
        # CUDA outlives no fork, an open file or a connection would be shared, a thread would be missing.
        assert loaded["at_import"] == {
            "cuda": False,
            "drivers": [],
            "threads": ["MainThread"],
            "open": ["0", "1", "2"],
            "temporary": None,
        }


def test_engines_are_forked_only_where_they_are_our_own_and_may_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(choose_starter(Settings(home=tmp_path)), Forker)
    with monkeypatch.context() as patched:  # as in Pythons that are built for older systems
        patched.delattr(os, "pidfd_open")
        assert isinstance(choose_starter(Settings(home=tmp_path)), Spawner)
    assert isinstance(choose_starter(Settings(home=tmp_path, keep_engine_loaded=False)), Spawner)
    assert isinstance(choose_starter(Settings(home=tmp_path, engine_command=("nice", *ENGINE_COMMAND))), Spawner)


@pytest.mark.parametrize(
    ("settings", "kind", "ends_with_parent"),
    [({}, Forker, False), ({"keep_engine_loaded": False}, Spawner, True), ({"jail": "off"}, Forker, None)],
    ids=["forked", "started", "off"],
)
def test_engines_start_in_bubblewrap_where_it_works(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    kind: type,
    ends_with_parent: bool | None,
) -> None:
    bubblewrap.works.cache_clear()
    put_bwrap(tmp_path, BECOME, monkeypatch)
    read = Settings(home=tmp_path / "home", **settings)
    try:
        starter = choose_starter(read)
    finally:
        bubblewrap.works.cache_clear()
    assert isinstance(starter, Forker | Spawner)
    assert isinstance(starter, kind)
    if ends_with_parent is None:
        assert starter.inside == ()
    else:
        assert starter.inside == bubblewrap.inside(read.work_folder, ends_with_parent=ends_with_parent)
        assert read.work_folder.is_dir()
