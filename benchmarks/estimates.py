"""What jobs are estimated to need against what they take: memory and time, on the CPU.

Each job is the engine's own process on a work folder, with nothing but its inspection known beforehand. Memory is the
peak of what a worker limits: that of the whole tree of processes, shared pages counted once (proportional set size),
looked at ten times a second. Time is estimated by the rate that the other jobs of this run had, as a service that has
done those before would.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save_file

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.inspect_model import inspect_upload
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.cost import JobEstimate, estimate_job
from modelpress.spec.job import Recipe
from modelpress.spec.report import Report
from modelpress.spec.task import INPUTS_FOLDER, LOG_FILE, REPORT_FILE, TASK_FILE, Compress, DatasetFile, ModelFile
from worker.child import engine_environment

_LOOK_SECONDS = 0.1
_TRAINING = {"epochs": 1, "precision": "fp32", "learning_rate": 0.01}


@dataclass(frozen=True)
class Case:
    """A job to estimate and to measure."""

    architecture: str
    images: int
    steps: tuple[Mapping[str, Any], ...]
    artifacts: tuple[str, ...] = ("compact",)

    @property
    def inputs(self) -> tuple[int, int, int]:
        """Shape of an image."""
        return (3, 32, 32)


def _finetune(batch_size: int, **more: Any) -> dict[str, Any]:
    return {"kind": "finetune", "training": _TRAINING | {"batch_size": batch_size} | more}


CASES = {
    "SNN, pruned without a training": Case("snn_1k", 500, ({"kind": "prune", "sparsity": 0.5},)),
    "ResNet-20, batches of 1,024": Case("resnet20_cifar", 4000, (_finetune(1024, epochs=2),)),
    "VGG-19, batches of 128": Case("vgg19_bn_cifar", 600, (_finetune(128, epochs=2),)),
    "VGG-19, AdamW, average, batches of 512": Case(
        "vgg19_bn_cifar", 600, (_finetune(512, epochs=2, optimizer="adamw", learning_rate=0.001, ema=0.99),)
    ),
    "ResNet-18, pruned and taught, batches of 512": Case(
        "resnet18",
        4000,
        ({"kind": "prune", "sparsity": 0.5, "training": _TRAINING | {"batch_size": 512, "teacher": "original"}},),
    ),
    "VGG-11, thinner by half, batches of 1,024": Case(
        "vgg11_bn_cifar",
        4000,
        (
            {
                "kind": "distill",
                "student": {"kind": "thinner", "width": 0.5},
                "training": _TRAINING | {"batch_size": 1024},
            },
        ),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What a job was estimated to need, and took."""

    estimate: JobEstimate
    peak_bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second, beside what takes its time on any machine."""
        return self.estimate.macs / max(self.seconds - self.estimate.fixed_seconds, 0.1 * self.seconds)


def run(case: Case, folder: Path, threads: int) -> Outcome:
    """Carry out one job. Raises RuntimeError when it fails."""
    (folder / INPUTS_FOLDER).mkdir(parents=True)
    torch.manual_seed(0)
    reference = ArchitectureRef(architecture=case.architecture, arguments={"num_classes": 10})
    channels, height, width = case.inputs
    save_file(build(reference).state_dict(), folder / INPUTS_FOLDER / "model")
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (case.images, height, width, channels), dtype=np.uint8)
    with (folder / INPUTS_FOLDER / "dataset").open("wb") as file:
        np.savez(file, images=images, labels=np.arange(case.images, dtype=np.int64) % 10)
    model = ModelFile(
        path=f"{INPUTS_FOLDER}/model", format="safetensors", architecture=reference, image_size=height, sha256="0" * 64
    )
    task = Compress(
        model=model,
        dataset=DatasetFile(path=f"{INPUTS_FOLDER}/dataset", sha256="1" * 64),
        recipe=Recipe.model_validate({"steps": case.steps, "artifacts": case.artifacts}),
        device="cpu",
        threads=threads,
    )
    (folder / TASK_FILE).write_text(task.model_dump_json())
    found = estimate_job(
        task.recipe, inspect_upload(model, folder), inspect_dataset(folder / INPUTS_FOLDER / "dataset")
    )
    if found is None:
        raise RuntimeError(f"{case.architecture} has no estimate")
    peak, seconds = _measure(folder, threads)
    return Outcome(found, peak, seconds)


def _measure(folder: Path, threads: int) -> tuple[int, float]:
    (folder / "tmp").mkdir()
    started = time.monotonic()
    peak = 0
    with (folder / LOG_FILE).open("wb") as log:
        engine = subprocess.Popen(
            [sys.executable, "-m", "modelpress.engine", str(folder)],
            cwd=folder,
            env=engine_environment(folder, threads=threads),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while engine.poll() is None:
            peak = max(peak, _held(psutil.Process(engine.pid)))
            time.sleep(_LOOK_SECONDS)
    seconds = time.monotonic() - started
    if engine.returncode != 0:
        raise RuntimeError((folder / LOG_FILE).read_text()[-2000:])
    Report.model_validate_json((folder / REPORT_FILE).read_bytes())
    return peak, seconds


def _held(engine: psutil.Process) -> int:
    total = 0
    for process in (engine, *engine.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> None:
    """Measure, print, write the result."""
    parser = arguments("estimates", __doc__ or "")
    parser.add_argument("--threads", type=int, default=2, help="threads of each job")
    parser.add_argument("--only", nargs="*", choices=CASES, help="only these jobs")
    given = parser.parse_args()
    outcomes = {}
    for name in given.only or CASES:
        with tempfile.TemporaryDirectory(prefix="estimates-") as folder:
            outcomes[name] = run(CASES[name], Path(folder), given.threads)
        done = outcomes[name]
        sys.stderr.write(
            f"{name}: estimated {done.estimate.cpu_memory_bytes >> 20} MiB, took {done.peak_bytes >> 20} MiB, "
            f"{done.seconds:.0f} s of which {done.estimate.fixed_seconds:.0f} by the book, "
            f"{done.rate / 1e9:.1f} G/s\n"
        )
    figures = []
    for name, done in outcomes.items():
        share = done.estimate.cpu_memory_bytes / done.peak_bytes
        memory = {"estimated_bytes": done.estimate.cpu_memory_bytes, "measured_bytes": done.peak_bytes}
        figures.append(Figure(f"{name}: memory, estimate / peak", share, at_most=1.0, baseline=memory))
        others = [other.rate for key, other in outcomes.items() if key != name and other.seconds > 1.5 * _book(other)]
        if others and done.seconds > 1.5 * _book(done):
            expected = done.estimate.fixed_seconds + done.estimate.macs / median(others)
            seconds = {"estimated_seconds": expected, "measured_seconds": done.seconds}
            figures.append(Figure(f"{name}: time, estimate / measured", expected / done.seconds, baseline=seconds))
    publish(
        given.output,
        "Estimates of jobs against what they took",
        {"threads": given.threads, "jobs": {name: repr(CASES[name]) for name in outcomes}},
        figures,
    )


def _book(outcome: Outcome) -> float:
    return outcome.estimate.fixed_seconds


if __name__ == "__main__":
    main()
