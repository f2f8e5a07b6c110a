"""The inputs of a task, and what an earlier attempt left of it, laid from the store into a work folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from db.queries.checkpoints import KeptFile
from db.queries.model_input import ModelInput
from modelpress.spec.event import CheckpointPart
from modelpress.spec.task import (
    CHECKPOINT_FILES,
    CHECKPOINT_FOLDER,
    INPUTS_FOLDER,
    REUSED_FILE,
    DatasetFile,
    ModelFile,
)
from storage.store import Corrupt, NotStored, Store
from worker.failures import NoInput

log = structlog.stdlib.get_logger(__name__)


def lay_model(store: Store, model: ModelInput, folder: Path, *, name: str = "model", what: str = "model") -> ModelFile:
    """Lay a model's file under this name; `what` names it in a sentence. Raises NoInput, StorageError, OSError."""
    path = f"{INPUTS_FOLDER}/{name}.{model.format}"
    _lay(store, model.sha256, folder / path, what)
    return ModelFile(
        path=path,
        format=model.format,
        architecture=model.architecture,
        image_size=model.image_size,
        preprocessing=model.preprocessing,
        sha256=model.sha256,
        lineage=model.lineage,
    )


def lay_students(store: Store, students: Mapping[str, ModelInput], folder: Path) -> dict[str, ModelFile]:
    """Lay the files that students begin as, by the ids of the models. Raises NoInput, StorageError, OSError."""
    return {
        # Numbered: the recipe names them by their ids, so that the file's name need not.
        model_id: lay_model(store, model, folder, name=f"student{number}", what=f"student {model_id!r}")
        for number, (model_id, model) in enumerate(sorted(students.items()))
    }


def lay_dataset(store: Store, sha256: str, folder: Path) -> DatasetFile:
    """Lay a data set's file. Raises NoInput, StorageError, OSError."""
    path = f"{INPUTS_FOLDER}/dataset"
    _lay(store, sha256, folder / path, "data set")
    return DatasetFile(path=path, sha256=sha256)


def lay_checkpoint(store: Store, checkpoint: Mapping[CheckpointPart, KeptFile], folder: Path) -> None:
    """Lay what an earlier attempt left; of what is gone or damaged, nothing. Raises StorageError, OSError."""
    for part, kept in checkpoint.items():
        path = folder / CHECKPOINT_FOLDER / CHECKPOINT_FILES[part]
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            store.fetch(kept.sha256, path)
        except (NotStored, Corrupt) as error:
            log.error("checkpoint_gone", part=part, sha256=kept.sha256, error=str(error))


def lay_first_steps(store: Store, sha256: str, folder: Path) -> bool:
    """Lay what the first steps of another job made; False where it is gone or damaged. Raises StorageError, OSError."""
    try:
        store.fetch(sha256, folder / REUSED_FILE)
    except (NotStored, Corrupt) as error:
        log.error("step_result_gone", sha256=sha256, error=str(error))
        return False
    return True


def _lay(store: Store, sha256: str, path: Path, what: str) -> None:
    try:
        store.fetch(sha256, path)
    except (NotStored, Corrupt) as error:
        log.error("input_gone", sha256=sha256, error=str(error))
        raise NoInput(what) from error
