"""A job through the service against the engine run directly on the same files.

Through the service: from the claim to the end of the attempt, by the database's clock, on the embedded default.
Directly: from the start of `python -m modelpress.engine FOLDER` to its end. Both start one child. In turns; medians.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.result import Figure, arguments, publish
from benchmarks.services import run_api, run_workers
from modelpress.client import Client
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import JobSpec, Recipe
from modelpress.spec.report import Report
from modelpress.spec.task import INPUTS_FOLDER, LOG_FILE, REPORT_FILE, TASK_FILE, Compress, DatasetFile, ModelFile
from tests.support.processes import service_environment
from worker.child import engine_environment

ARCHITECTURE = ArchitectureRef(architecture="resnet20_cifar")


def make_inputs(folder: Path, images: int) -> tuple[Path, Path]:
    """A ResNet-20 with random weights, and images of random pixels."""
    torch.manual_seed(0)
    model, dataset = folder / "model.safetensors", folder / "images.npz"
    save_file(build(ARCHITECTURE).state_dict(), model)
    draw = np.random.default_rng(0)
    np.savez(
        dataset,
        images=draw.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8),
        labels=np.arange(images, dtype=np.int64) % 10,
    )
    return model, dataset


def recipe(epochs: int) -> Recipe:
    """Gradual pruning, and all artifacts."""
    # The precision is given, so that no trial can choose otherwise in one run than in the other.
    training = {"epochs": epochs, "learning_rate": 0.01, "precision": "fp32"}
    return Recipe.model_validate(
        {"steps": [{"kind": "prune", "sparsity": 0.75, "schedule": {"kind": "cubic"}, "training": training}]}
    )


def run_directly(model: Path, dataset: Path, asked: Recipe) -> float:
    """Seconds of the engine's process alone."""
    with tempfile.TemporaryDirectory(prefix="modelpress-direct-") as name:
        folder = Path(name)
        inputs = folder / INPUTS_FOLDER
        inputs.mkdir()
        for path in (model, dataset):
            (inputs / path.name).write_bytes(path.read_bytes())
        task = Compress(
            model=ModelFile(
                path=f"{INPUTS_FOLDER}/{model.name}",
                format="safetensors",
                architecture=ARCHITECTURE,
                sha256=_sha256(model),
            ),
            dataset=DatasetFile(path=f"{INPUTS_FOLDER}/{dataset.name}", sha256=_sha256(dataset)),
            recipe=asked,
        )
        (folder / TASK_FILE).write_text(task.model_dump_json())
        (folder / "tmp").mkdir()
        with (folder / LOG_FILE).open("wb") as log:
            begin = time.perf_counter()
            # In the environment that a worker gives it, so that only the service makes the difference.
            subprocess.run(
                [sys.executable, "-m", "modelpress.engine", name],
                check=True,
                stdout=log,
                stderr=log,
                env=engine_environment(folder),
            )
            seconds = time.perf_counter() - begin
        Report.model_validate_json((folder / REPORT_FILE).read_bytes())
        return seconds


def run_through_service(client: Client, model: str, dataset: str, asked: Recipe) -> float:
    """Seconds from the claim to the end of the attempt."""
    job = client.submit(JobSpec(model=model, dataset=dataset, reuse=False, **asked.model_dump()))
    job.wait()
    attempt = job.refresh().attempts[-1]
    assert attempt.finished_at is not None
    return (attempt.finished_at - attempt.started_at).total_seconds()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Measure, write, print."""
    parser = arguments("overhead", __doc__ or "")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asked = recipe(options.epochs)
    with tempfile.TemporaryDirectory(prefix="modelpress-overhead-") as name:
        folder = Path(name)
        environment = service_environment(home=name)
        model, dataset = make_inputs(folder, options.images)
        with (
            run_api(environment, folder) as api,
            run_workers(environment, folder),
            Client(api.url, api.key) as client,
        ):
            model_id = client.upload_model(model, architecture=ARCHITECTURE.architecture).id
            dataset_id = client.upload_dataset(dataset).id
            direct, service = [], []
            for turn in range(options.rounds):
                direct.append(run_directly(model, dataset, asked))
                service.append(run_through_service(client, model_id, dataset_id, asked))
                print(f"round {turn + 1}: directly {direct[-1]:.1f} s, service {service[-1]:.1f} s", flush=True)
    ratios = tuple(ours / alone for ours, alone in zip(service, direct, strict=True))
    publish(
        options.output,
        "A job through the service against the engine alone",
        {
            "network": ARCHITECTURE.architecture,
            "images": f"{options.images} of random pixels, 3 x 32 x 32",
            "epochs": options.epochs,
            "rounds": options.rounds,
        },
        [
            Figure(
                "service / engine alone",
                median(ratios),
                at_most=1.05,
                samples=ratios,
                baseline={"service_seconds": median(service), "engine_seconds": median(direct)},
            )
        ],
    )


if __name__ == "__main__":
    main()
