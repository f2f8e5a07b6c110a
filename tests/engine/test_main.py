"""The engine's process: tasks by their kind, exit codes, failures as a file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from modelpress.engine.__main__ import main
from modelpress.engine.architectures.registry import build
from modelpress.engine.ending import failure_of
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import FailureKind, InvalidModel
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from tests.support.work_folder import ARCHITECTURE, CLASSES, WorkFolder


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def test_a_model_is_inspected(folder: WorkFolder) -> None:
    torch.manual_seed(0)
    module = build(ArchitectureRef.model_validate(ARCHITECTURE))
    run = folder.run({"kind": "inspect_model", "model": folder.put_model(module)})
    assert run.returncode == 0, run.stdout
    inspection = ModelInspection.model_validate(folder.inspection)
    assert inspection.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert (inspection.num_classes, inspection.network.input_shape) == (4, (1, 32, 32))
    assert folder.names() == {"inspection.json"}
    assert run.stdout.splitlines()[0].endswith("INFO    task: inspect_model")


def test_a_dataset_is_inspected(folder: WorkFolder) -> None:
    run = folder.run({"kind": "inspect_dataset", "dataset": folder.put_dataset()})
    assert run.returncode == 0, run.stdout
    inspection = DatasetInspection.model_validate(folder.inspection)
    assert (inspection.classes, inspection.train_examples, inspection.heldout_examples) == (CLASSES, 240, 64)
    assert inspection.image_shape == (1, 32, 32)
    assert folder.names() == {"inspection.json"}


def test_an_upload_that_is_no_model_is_a_typed_failure(folder: WorkFolder) -> None:
    module = build(ArchitectureRef.model_validate(ARCHITECTURE))
    model = folder.put_model(module)
    path = folder.path / "inputs/model"
    path.write_bytes(path.read_bytes()[:1000])
    run = folder.run({"kind": "inspect_model", "model": model})
    assert run.returncode == 1
    assert folder.failure.kind is FailureKind.INVALID_MODEL
    assert folder.failure.message in run.stdout
    assert "Traceback" not in run.stdout
    assert folder.names() == {"failure.json"}


def test_an_error_of_its_own_goes_to_the_log_and_not_to_the_user(folder: WorkFolder) -> None:
    run = folder.run({"kind": "inspect_nothing"})
    assert run.returncode == 1
    failure = folder.failure
    assert failure.kind is FailureKind.INTERNAL
    assert "send the job's log" in failure.message
    assert "inspect_nothing" not in failure.message
    assert "Traceback" in run.stdout
    assert "inspect_nothing" in run.stdout


def test_a_call_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: python -m modelpress.engine FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidModel("no"), FailureKind.INVALID_MODEL),
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), FailureKind.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "no space"), FailureKind.OUT_OF_DISK),
        (OSError(errno.EACCES, "denied"), FailureKind.INTERNAL),
        (ValueError("secret"), FailureKind.INTERNAL),
    ],
)
def test_every_error_becomes_a_typed_failure(error: Exception, kind: FailureKind) -> None:
    failure = failure_of(error)
    assert failure.kind is kind
    assert "secret" not in failure.message
