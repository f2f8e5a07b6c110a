"""The inputs of a task, laid from the store into a work folder."""

from __future__ import annotations

from pathlib import Path

import structlog

from db.queries.model_input import ModelInput
from modelpress.spec.task import INPUTS_FOLDER, DatasetFile, ModelFile
from storage.store import Corrupt, NotStored, Store
from worker.failures import NoInput

log = structlog.stdlib.get_logger(__name__)


def lay_model(store: Store, model: ModelInput, folder: Path) -> ModelFile:
    """Lay a model's file. Raises NoInput, StorageError, OSError."""
    path = f"{INPUTS_FOLDER}/model.{model.format}"
    _lay(store, model.sha256, folder / path, "model")
    return ModelFile(
        path=path,
        format=model.format,
        architecture=model.architecture,
        image_size=model.image_size,
        preprocessing=model.preprocessing,
        sha256=model.sha256,
    )


def lay_dataset(store: Store, sha256: str, folder: Path) -> DatasetFile:
    """Lay a data set's file. Raises NoInput, StorageError, OSError."""
    path = f"{INPUTS_FOLDER}/dataset"
    _lay(store, sha256, folder / path, "data set")
    return DatasetFile(path=path, sha256=sha256)


def _lay(store: Store, sha256: str, path: Path, what: str) -> None:
    try:
        store.fetch(sha256, path)
    except (NotStored, Corrupt) as error:
        log.error("input_gone", sha256=sha256, error=str(error))
        raise NoInput(what) from error
