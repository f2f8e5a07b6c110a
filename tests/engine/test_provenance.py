"""What a result says of where it comes from, against the machine's own tools."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import torch

import modelpress
from modelpress.engine.provenance import machine, provenance, versions
from modelpress.spec.cores import available_cores
from modelpress.spec.task import TASK, Compress

TASK_JSON = {
    "kind": "compress",
    "model": {"path": "inputs/m", "format": "pt", "architecture": {"architecture": "snn_1k"}, "sha256": "ab"},
    "dataset": {"path": "inputs/d", "sha256": "cd"},
    "students": {
        "mdl_small": {"path": "inputs/s", "format": "pt", "architecture": {"architecture": "snn_1k"}, "sha256": "ef"}
    },
    "recipe": {"seed": 7, "steps": [{"kind": "prune", "sparsity": 0.5}]},
}


def test_the_recipe_and_the_hashes_are_those_of_the_task() -> None:
    task = TASK.validate_python(TASK_JSON)
    assert isinstance(task, Compress)
    started = datetime.now(timezone(timedelta(hours=2))) - timedelta(seconds=30)
    found = provenance(task, torch.device("cpu"), started)
    assert (found.model_sha256, found.dataset_sha256, found.recipe) == ("ab", "cd", task.recipe)
    assert found.student_sha256 == {"mdl_small": "ef"}
    assert found.modelpress_version == modelpress.__version__
    # The time is told in UTC, whatever zone it was taken in.
    assert found.started_at.endswith("+00:00")
    assert abs(datetime.fromisoformat(found.started_at) - started.astimezone(UTC)) <= timedelta(seconds=1)
    assert 30 <= found.seconds < 90


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["onnxruntime"] == version("onnxruntime")


def test_the_machine_is_this_one() -> None:
    facts = machine(torch.device("cpu"))
    cores = subprocess.run(["nproc"], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert facts["cores"] == available_cores() <= int(cores.stdout)  # a container may have a limit besides
    assert facts["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert facts["gpu"] is None
    assert facts["processor"]
    flags = Path("/proc/cpuinfo").read_text()
    assert (facts["instructions"] == "AVX512") == ("avx512f" in flags and "avx512vl" in flags)
