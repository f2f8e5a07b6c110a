"""One real service for all tests of the client, with a model, a data set and a job that is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from demo.digits import ARCHITECTURE, write_digits
from modelpress.client import Client, JobHandle
from modelpress.engine.architectures.registry import build
from modelpress.spec.resources import Dataset, Model
from tests.support.service import RunningService, running_service

TRAIN_IMAGES, HELDOUT_IMAGES = 320, 80


@dataclass(frozen=True)
class Inputs:
    """A model and a data set as files; the model is the demo's, untrained."""

    folder: Path
    model: Path
    dataset: Path


@pytest.fixture(scope="session")
def user_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home, in which the service has its data folder at the usual place."""
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="session")
def service(user_home: Path) -> Iterator[RunningService]:
    """The service, for the whole session."""
    with running_service(user_home / ".local/share/modelpress", MODELPRESS_THREADS="1") as running:
        yield running


@pytest.fixture(scope="session")
def client(service: RunningService) -> Iterator[Client]:
    """A client of it."""
    with Client(service.url, service.key) as client:
        yield client


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Files to upload."""
    folder = tmp_path_factory.mktemp("inputs")
    save_file(build(ARCHITECTURE).state_dict(), folder / "model.safetensors")
    write_digits(folder / "all.npz")
    # Some of them: what is trained here does not have to be good.
    with np.load(folder / "all.npz") as digits:
        counts = {"images": TRAIN_IMAGES, "labels": TRAIN_IMAGES}
        few = {name: values[: counts.get(name, HELDOUT_IMAGES)] for name, values in digits.items()}
    np.savez_compressed(folder / "digits.npz", **few)
    return Inputs(folder, folder / "model.safetensors", folder / "digits.npz")


@pytest.fixture(scope="session")
def model(client: Client, inputs: Inputs) -> Model:
    """An uploaded model."""
    return client.upload_model(
        inputs.model, architecture=ARCHITECTURE.architecture, arguments=ARCHITECTURE.arguments, mean=[0.3], std=[0.35]
    )


@pytest.fixture(scope="session")
def dataset(client: Client, inputs: Inputs) -> Dataset:
    """An uploaded data set."""
    return client.upload_dataset(inputs.dataset)


@pytest.fixture(scope="session")
def finished(client: Client, model: Model, dataset: Dataset) -> JobHandle:
    """A job that has succeeded."""
    job = client.submit(
        {
            "name": "slim",
            "model": model.id,
            "dataset": dataset.id,
            "steps": [{"kind": "prune", "sparsity": 0.75}],
            "artifacts": ["compact", "safetensors"],
        }
    )
    job.wait(timeout=600)
    return job
