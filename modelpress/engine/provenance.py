"""Where a result comes from: the recipe, the hashes of its inputs, the versions and the machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import JsonValue

import modelpress
from modelpress.spec.cores import available_cores
from modelpress.spec.report import Provenance
from modelpress.spec.task import Compress

_LIBRARIES = (
    *("torch", "torchvision", "numpy", "safetensors"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "executorch"),
)


def provenance(task: Compress, device: torch.device, started: datetime) -> Provenance:
    """The provenance of a task that began at `started` (with a time zone) and ends now."""
    return Provenance(
        modelpress_version=modelpress.__version__,
        model_sha256=task.model.sha256,
        lineage=task.model.lineage,
        dataset_sha256=task.dataset.sha256 if task.dataset is not None else None,
        student_sha256={name: student.sha256 for name, student in task.students.items()},
        recipe=task.recipe,
        versions=versions(),
        machine=machine(device),
        started_at=started.astimezone(UTC).isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - started).total_seconds(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, JsonValue]:
    """The machine in words and numbers: processor and its vector instructions, cores that this process may use, memory,
    GPU, operating system."""
    facts: dict[str, JsonValue] = {
        "processor": _processor(),
        # Those that torch computes with: of processors that call themselves alike, one may be twice as fast as another.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": device.type,
        "gpu": None,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["gpu_memory_bytes"] = properties.total_memory
        facts["cuda"] = torch.version.cuda
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
