"""A work folder with a small trained network and small images, and the engine's process run in it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import nn

from modelpress.spec.event import ENGINE_EVENT, EngineEvent
from modelpress.spec.failure import Failure
from modelpress.spec.report import Report
from modelpress.spec.task import EVENTS_FILE, FAILURE_FILE, INSPECTION_FILE, REPORT_FILE, TASK_FILE
from tests.support.latency import LATENCY_SECONDS

ARCHITECTURE = {"architecture": "vgg11_bn_cifar", "arguments": {"in_channels": 1, "num_classes": 4, "width": 0.125}}
CLASSES = ("north", "east", "south", "west")


def patterned_images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grey images uint8 (count, 32, 32, 1) of four patterns under noise, and their labels int64 (count,)."""
    patterns = np.random.default_rng(7).integers(0, 256, (4, 8, 8)).repeat(4, axis=1).repeat(4, axis=2)
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = 0.6 * patterns[labels] + draw.integers(0, 100, (count, 32, 32))
    return images.clip(0, 255).astype(np.uint8)[..., None], labels.astype(np.int64)


class WorkFolder:
    """Lays out the inputs of a task, runs `python -m modelpress.engine` on it, reads what it left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "inputs").mkdir(parents=True)

    def put_model(
        self, module: nn.Module, architecture: dict[str, Any] = ARCHITECTURE, name: str = "model"
    ) -> dict[str, Any]:
        """The `model` of a task, or a student by another `name`."""
        path = f"inputs/{name}"
        save_file({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, self.path / path)
        return {
            "path": path,
            "format": "safetensors",
            "architecture": architecture,
            "preprocessing": {"mean": [0.5], "std": [0.25]},
            "sha256": self.sha256(path),
        }

    def put_dataset(self, count: int = 240) -> dict[str, Any]:
        """The `dataset` of a task."""
        images, labels = patterned_images(count)
        held, held_labels = patterned_images(64, seed=1)
        with (self.path / "inputs/dataset").open("wb") as file:
            np.savez(
                file,
                images=images,
                labels=labels,
                test_images=held,
                test_labels=held_labels,
                classes=np.array(CLASSES),
            )
        return {"path": "inputs/dataset", "sha256": self.sha256("inputs/dataset")}

    def start(self, task: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Write the task and start the engine on it, in a session of its own; what it prints is dropped."""
        self._put_task(task)
        return subprocess.Popen(
            [sys.executable, "-m", "modelpress.engine", str(self.path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, task: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Write the task and run the engine on it, in a process of its own."""
        self._put_task(task)
        return subprocess.run(
            [sys.executable, "-m", "modelpress.engine", str(self.path)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _put_task(self, task: dict[str, Any]) -> None:
        short = {"latency_seconds": LATENCY_SECONDS} if task["kind"] == "compress" else {}
        (self.path / TASK_FILE).write_text(json.dumps(short | task))

    def sha256(self, name: str) -> str:
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()

    def names(self) -> set[str]:
        """Everything that lies in the folder itself, inputs and task aside."""
        return {entry.name for entry in self.path.iterdir()} - {"inputs", TASK_FILE}

    @property
    def artifacts(self) -> set[str]:
        folder = self.path / "artifacts"
        return {entry.name for entry in folder.iterdir()} if folder.exists() else set()

    @property
    def report(self) -> Report:
        return Report.model_validate_json((self.path / REPORT_FILE).read_bytes())

    @property
    def failure(self) -> Failure:
        return Failure.model_validate_json((self.path / FAILURE_FILE).read_bytes())

    @property
    def inspection(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / INSPECTION_FILE).read_bytes())
        return found

    @property
    def events(self) -> list[EngineEvent]:
        return [ENGINE_EVENT.validate_json(line) for line in (self.path / EVENTS_FILE).read_text().splitlines()]
