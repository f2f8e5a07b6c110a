"""The main job on a small trained network, each method and their combination, by the engine's real process."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

import modelpress
from modelpress.engine import accumulation
from modelpress.engine.architectures.registry import build
from modelpress.engine.data.dataset import read_dataset
from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.formats import extras
from modelpress.engine.formats.registry import WRITERS
from modelpress.engine.loading import Inputs, load_inputs
from modelpress.engine.network import Network
from modelpress.engine.pipeline import compress
from modelpress.engine.steps import STEPS, StepContext, StepResult
from modelpress.engine.training import train
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Checkpointed, Progress, StageDone, Warned
from modelpress.spec.failure import (
    FailureKind,
    GoalNotMet,
    IncompatibleSpec,
    InvalidDataset,
    InvalidModel,
    OutOfMemory,
    VerificationFailed,
)
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import TASK, Compress
from modelpress.spec.training import Training
from tests.support.archives import picture, write_zip
from tests.support.latency import LATENCY_SECONDS
from tests.support.work_folder import ARCHITECTURE, CLASSES, WorkFolder, patterned_images

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(mean=(0.5,), std=(0.25,))
TRAINING = {"epochs": 2, "learning_rate": 0.02, "batch_size": 32, "precision": "fp32"}
PRUNE = {"kind": "prune", "sparsity": 0.75}
GRADUAL = {
    **PRUNE,
    "schedule": {"kind": "cubic", "frequency": 1},
    "training": {**TRAINING, "epochs": 6, "teacher": "original"},
}
DISTILL = {
    "kind": "distill",
    "student": {"architecture": "vgg11_bn_cifar", "arguments": {"width": 0.0625}},
    "training": {**TRAINING, "epochs": 12, "learning_rate": 0.003, "batch_size": 16},
}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The network that is compressed: right on nearly all images."""
    folder = WorkFolder(tmp_path_factory.mktemp("training") / "work")
    data = read_dataset(folder.path / folder.put_dataset()["path"], seed=0)
    torch.manual_seed(0)
    module = build(ArchitectureRef.model_validate(ARCHITECTURE))
    training = Training.model_validate({**TRAINING, "epochs": 10, "learning_rate": 0.05})
    train(module, data, PREPROCESSING, training, loss=LabelLoss(), seed=0, device=torch.device("cpu"))
    return module


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def _task(
    folder: WorkFolder,
    module: nn.Module,
    *steps: dict[str, Any],
    data: bool = True,
    artifacts: Sequence[str] | None = ("compact",),
    **more: Any,
) -> dict[str, Any]:
    # One file where a test does not look at the others: exporting and timing them takes longer than all else.
    return {
        "kind": "compress",
        "model": folder.put_model(module),
        "dataset": folder.put_dataset() if data else None,
        "recipe": {"steps": steps, "artifacts": artifacts, **more},
        "threads": 1,
        "device": "cpu",
        "latency_seconds": LATENCY_SECONDS,
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _zeros(module: nn.Module) -> int:
    return sum(int((parameter == 0).sum()) for parameter in module.parameters())


def _normalised() -> torch.Tensor:
    images, _ = patterned_images(64, seed=1)
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def test_gradual_pruning_under_the_original_as_teacher(module: nn.Module, folder: WorkFolder) -> None:
    run = folder.run(_task(folder, module, GRADUAL, artifacts=None))
    assert run.returncode == 0, run.stdout
    assert folder.names() == {"artifacts", "report.json", "model_card.md", "events.jsonl"}
    assert folder.artifacts == {"model.mpz", "model.safetensors", "model.pt2", "model.onnx", "model.int8.onnx"}

    report = folder.report
    assert report.warnings == ()
    assert report.network.classes == CLASSES
    original = _parameters(module)
    weights = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
    (stage,) = report.stages
    # The sparsity is met to the weight, and the fresh process counts in the file what was counted in memory.
    zeros = round(0.75 * weights)
    compact = modelpress.load(folder.path / "artifacts/model.mpz")
    pruned = sum(
        int((layer.weight == 0).sum()) for layer in compact.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    )
    assert pruned == zeros
    assert report.final.nonzero_parameters == stage.measurement.nonzero_parameters == original - _zeros(compact)
    assert report.final.parameters == report.baseline.parameters == original
    assert report.baseline.measured_on == report.final.measured_on == "file"
    assert stage.measurement.measured_on == "memory"
    assert stage.training is not None
    assert stage.training.epochs == 6

    # All files but the 8-bit one are one network.
    safetensors = modelpress.load(folder.path / "artifacts/model.safetensors").state_dict()
    for name, tensor in compact.state_dict().items():
        assert torch.equal(tensor, safetensors[name]), name
    images = _normalised()
    session = onnxruntime.InferenceSession(folder.path / "artifacts/model.onnx")
    (scores,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected = compact(images)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)

    # Accuracy, counted once more by hand on the loaded file.
    _, labels = patterned_images(64, seed=1)
    assert report.final.accuracy is not None
    assert report.final.accuracy.top1 == float((expected.argmax(1).numpy() == labels).mean())
    assert report.final.accuracy.examples == 64
    assert report.ratios.accuracy_retention is not None
    assert report.ratios.accuracy_retention > 0.8

    # Agreement with the original, by hand too.
    with torch.no_grad():
        before = module.eval()(images)
    told, found = before.double().log_softmax(1), expected.double().log_softmax(1)
    assert report.baseline.agreement is None
    assert report.final.agreement is not None
    assert report.final.agreement.examples == 64
    assert report.final.agreement.top1 == float((before.argmax(1) == expected.argmax(1)).double().mean())
    assert report.final.agreement.kl == pytest.approx(float((told.exp() * (told - found)).sum() / 64), rel=1e-3)

    # Files as they lie there.
    for proof in report.proofs:
        assert proof.bytes == (folder.path / "artifacts" / proof.file).stat().st_size
        assert proof.sha256 == folder.sha256(f"artifacts/{proof.file}")
        assert proof.largest_difference <= proof.tolerance
    smallest = min(proof.bytes for proof in report.proofs if proof.kind != "onnx_int8")
    assert report.ratios.stored_bytes == report.baseline.stored_bytes["safetensors"] / smallest
    assert report.ratios.stored_bytes > 3
    before, after = report.baseline.latency_in(), report.final.latency_in()
    assert before is not None
    assert after is not None
    assert report.ratios.latency == before.p50_ms / after.p50_ms
    assert report.ratios.latency_runtime == "onnxruntime"

    assert report.provenance.model_sha256 == folder.sha256("inputs/model")
    assert report.provenance.dataset_sha256 == folder.sha256("inputs/dataset")
    assert report.provenance.versions["torch"] == torch.__version__
    _check_events(folder)


def _check_events(folder: WorkFolder) -> None:
    progress = [event for event in folder.events if isinstance(event, Progress)]
    stages = list(dict.fromkeys(event.stage for event in progress))
    assert stages == ["loading", "baseline", "step", "artifacts", "verification", "done"]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    done = [event for event in folder.events if isinstance(event, StageDone)]
    assert [event.stage for event in done] == ["baseline", "step", "final"]
    assert done[-1].measurement == folder.report.final.model_copy(update={"layers": ()})
    assert folder.report.final.layers


def test_distill_then_prune(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, DISTILL, {**PRUNE, "training": TRAINING}, artifacts=["safetensors", "compact"])
    _compress(folder, task)
    assert folder.artifacts == {"model.mpz", "model.safetensors"}
    report = folder.report
    student = build(
        ArchitectureRef(architecture="vgg11_bn_cifar", arguments={"in_channels": 1, "num_classes": 4, "width": 0.0625})
    )
    assert report.network.architecture.arguments == {"in_channels": 1, "num_classes": 4, "width": 0.0625}
    assert [stage.kind for stage in report.stages] == ["distill", "prune"]
    assert report.stages[0].measurement.parameters == report.final.parameters == _parameters(student)
    assert report.stages[0].measurement.accuracy is not None
    assert report.stages[0].measurement.accuracy.top1 > 0.5
    assert report.ratios.parameters == _parameters(module) / _parameters(student)
    assert report.ratios.nonzero_parameters > 3 * report.ratios.parameters
    # No file for ONNX Runtime was asked for.
    assert report.ratios.latency_runtime == "pytorch"
    before, after = report.baseline.latency_in("pytorch"), report.final.latency_in("pytorch")
    assert before is not None
    assert after is not None
    assert report.ratios.latency == before.p50_ms / after.p50_ms
    assert {latency.runtime for latency in report.final.latencies} == {"pytorch"}
    assert folder.names() == {"artifacts", "report.json", "model_card.md"}
    loaded = modelpress.load(folder.path / "artifacts/model.mpz")
    assert loaded(_normalised()).shape == (64, 4)


STUDENT = {
    "architecture": "vgg13_bn_cifar",
    "arguments": {"in_channels": 1, "num_classes": 4, "width": 0.0625},
}
UPLOADED = {
    "kind": "distill",
    "student": {"kind": "uploaded", "model": "mdl_small"},
    "training": {**TRAINING, "epochs": 1, "learning_rate": 1e-7, "weight_decay": 0},
}


def _student(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(ArchitectureRef.model_validate(STUDENT))


def test_an_uploaded_student_goes_on_from_its_file(module: nn.Module, folder: WorkFolder) -> None:
    uploaded = _student(seed=5)
    prune = {**PRUNE, "layers": {"include": ["features.31"]}}  # a layer that the original does not have
    task = _task(folder, module, UPLOADED, prune, artifacts=["safetensors"])
    file = folder.put_model(uploaded, STUDENT, "student0") | {"preprocessing": {"mean": [0.25], "std": [0.5]}}
    _compress(folder, task | {"students": {"mdl_small": file}})
    report = folder.report
    assert report.warnings == ()
    assert report.provenance.student_sha256 == {"mdl_small": folder.sha256("inputs/student0")}
    assert report.network.architecture == ArchitectureRef.model_validate(STUDENT)
    # The file says what its pixels are, which is not what the original's are.
    assert report.network.preprocessing == Preprocessing(mean=(0.25,), std=(0.5,))
    assert report.network.classes == CLASSES
    assert report.stages[0].measurement.parameters == _parameters(uploaded)
    assert [change.name for change in report.stages[1].layers] == ["features.31"]
    written = modelpress.load(folder.path / "artifacts/model.safetensors")
    for name, weight in uploaded.named_parameters():
        if name != "features.31.weight":
            torch.testing.assert_close(written.get_parameter(name), weight, rtol=0, atol=1e-4, msg=name)


def test_a_student_s_file_that_is_no_model_is_named(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, UPLOADED)
    file = folder.put_model(_student(seed=5), ARCHITECTURE, "student0")
    with pytest.raises(InvalidModel, match=r"the student 'mdl_small': .*features\.0\.weight"):
        _compress(folder, task | {"students": {"mdl_small": file}})
    with pytest.raises(IncompatibleSpec, match=r"steps\.0\.student\.model: there is no model 'mdl_small'"):
        _compress(folder, task)


def test_a_student_without_preprocessing_is_warned_of(module: nn.Module, folder: WorkFolder) -> None:
    file = folder.put_model(_student(seed=5), STUDENT, "student0")
    del file["preprocessing"]
    task = TASK.validate_python(_task(folder, module, UPLOADED) | {"students": {"mdl_small": file}})
    assert isinstance(task, Compress)
    warnings: list[str] = []
    inputs = load_inputs(task, folder.path, warnings.append)
    assert inputs.students["mdl_small"].description.preprocessing is None
    (warning,) = warnings
    assert warning.startswith("the student 'mdl_small' was uploaded without preprocessing")


def test_images_without_any_label_are_enough_for_a_teacher(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, GRADUAL)
    images, _ = patterned_images(240)
    np.save(folder.path / "inputs/images.npy", images)
    task["dataset"] = {"path": "inputs/images.npy", "sha256": folder.sha256("inputs/images.npy")}
    _compress(folder, task)
    report = folder.report
    (warning,) = report.warnings
    assert "the original's own answers are taken for the labels of the 24 held-out images" in warning
    assert report.network.classes is None
    assert report.baseline.accuracy is not None
    assert (report.baseline.accuracy.top1, report.baseline.accuracy.examples) == (1.0, 24)
    assert report.proofs[0].accuracy is not None
    assert report.proofs[0].agreement is not None
    assert report.proofs[0].accuracy.top1 == report.proofs[0].agreement.top1 > 0.9


def test_images_of_other_sizes_and_channels_are_brought_to_the_input(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, PRUNE)
    files = {
        f"{part}/{name}/{side}.png": picture(side, size=(side, 50))
        for part, name, side in product(("train", "val"), CLASSES, (40, 60))
    }
    write_zip(folder.path / "inputs/dataset", files)
    with pytest.raises(InvalidDataset, match=r"images differ in size: .*`resize`"):
        _load(folder, task)
    task["model"]["preprocessing"]["resize"] = {"kind": "crop", "shorter_side": 40}
    data = _load(folder, task).data
    assert data is not None
    assert data.train_images.shape == data.heldout_images.shape == (8, 1, 32, 32)
    # The first is 40 wide already and keeps its width: the middle of it is cut out as it is.
    shown = Image.open(io.BytesIO(files["train/east/40.png"])).crop((4, 9, 36, 41)).convert("L")
    np.testing.assert_array_equal(data.train_images[0, 0].numpy(), np.asarray(shown))


def _load(folder: WorkFolder, task: dict[str, Any]) -> Inputs:
    checked = TASK.validate_python(task)
    assert isinstance(checked, Compress)
    return load_inputs(checked, folder.path, lambda message: None)


def test_factorizing_twice_by_the_same_seed_gives_the_same_bytes(module: nn.Module, tmp_path: Path) -> None:
    hashes = []
    factorize = {"kind": "factorize", "rank": {"kind": "energy", "value": 0.8}, "training": TRAINING}
    here, there = WorkFolder(tmp_path / "here"), WorkFolder(tmp_path / "there")
    _compress(here, _task(here, module, factorize, seed=3))
    run = there.run(_task(there, module, factorize, seed=3))
    assert run.returncode == 0, run.stdout
    for folder in (here, there):
        hashes.append(folder.sha256("artifacts/model.mpz"))
        report = folder.report
        assert report.network.edits
        assert report.final.parameters < report.baseline.parameters
        assert report.ratios.macs > 1
        ranks = {change.name: change.rank for change in report.stages[0].layers}
        assert {edit.layer: edit.rank for edit in report.network.edits} == ranks
    assert hashes[0] == hashes[1]


def test_a_goal_that_is_not_met_keeps_files_and_report_and_no_data_means_no_accuracy(
    module: nn.Module, folder: WorkFolder
) -> None:
    task = _task(folder, module, PRUNE, data=False, artifacts=["onnx"], goal={"min_compression_ratio": 1000})
    del task["model"]["preprocessing"]
    events: list[Any] = []
    with pytest.raises(GoalNotMet) as caught:
        _compress(folder, task, events)
    assert folder.names() == {"artifacts", "report.json", "model_card.md"}
    assert folder.artifacts == {"model.onnx"}
    report = folder.report
    ratio = f"compression ratio is {report.ratios.stored_bytes:.3f}, at least 1000 was asked for"
    assert ratio in caught.value.message

    assert report.baseline.accuracy is None
    assert report.final.accuracy is None
    assert report.ratios.accuracy_retention is None
    assert report.provenance.dataset_sha256 is None
    assert report.ratios.latency is not None
    # The ONNX file keeps its zeros: they are counted, and make it no smaller.
    assert report.ratios.nonzero_parameters > 3
    assert report.ratios.stored_bytes < 1.1
    assert report.network.preprocessing == Preprocessing(mean=(0.0,), std=(1.0,))
    assert "the upload names no preprocessing and there is no data" in report.warnings[0]
    assert [event.message for event in events if isinstance(event, Warned)] == list(report.warnings)


def test_all_misfits_are_told_and_nothing_is_left(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(
        folder,
        module,
        {**PRUNE, "layers": {"include": ["head"]}},
        {**DISTILL, "student": {"architecture": "vgg7"}},
    )
    run = folder.run(task)
    assert run.returncode == 1
    failure = folder.failure
    assert failure.kind is FailureKind.INCOMPATIBLE_SPEC
    assert "steps.0.layers: no layer matches 'head'" in failure.message
    assert "steps.1.student.architecture: there is no architecture 'vgg7'" in failure.message
    assert "Traceback" not in run.stdout
    assert folder.names() == {"events.jsonl", "failure.json"}


def _compress(folder: WorkFolder, task: dict[str, Any], events: list[Any] | None = None) -> list[Any]:
    """The job in this process, which has imported torch already; the proofs' processes are fresh as ever."""
    told = [] if events is None else events
    checked = TASK.validate_python(task)
    assert isinstance(checked, Compress)
    compress(checked, folder.path, told.append)
    return told


class TestWhatCannotBeExported:
    """Stands in for a network that depends on its input's values, which no architecture of ours does."""

    @pytest.fixture(autouse=True)
    def _refusing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(network: Network, path: Path) -> None:
            raise IncompatibleSpec("this network cannot be exported")

        for kind in (ArtifactKind.PT2, ArtifactKind.ONNX):
            monkeypatch.setitem(WRITERS, kind, refuse)

    def test_it_is_left_out_and_named_where_no_files_were(self, module: nn.Module, folder: WorkFolder) -> None:
        _compress(folder, _task(folder, module, PRUNE, artifacts=None))
        assert folder.artifacts == {"model.mpz", "model.safetensors"}
        warnings = "\n".join(folder.report.warnings)
        for file in ("model.pt2", "model.onnx", "model.int8.onnx"):
            assert f"{file} is left out: this network cannot be exported" in warnings
        assert "latency in ONNX Runtime is not measured" in warnings

    @pytest.mark.parametrize("kind", ["pt2", "onnx", "onnx_int8"])
    def test_it_is_refused_before_any_step_where_it_was_named(
        self, kind: str, module: nn.Module, folder: WorkFolder
    ) -> None:
        with pytest.raises(IncompatibleSpec, match="this network cannot be exported"):
            _compress(folder, _task(folder, module, PRUNE, artifacts=["compact", kind]))
        assert folder.artifacts == set()


def test_a_file_that_changed_after_it_was_written_is_never_kept(
    module: nn.Module, folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = WRITERS[ArtifactKind.COMPACT]

    def write_on_a_faulty_disk(network: Network, path: Path) -> None:
        right(network, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    monkeypatch.setitem(WRITERS, ArtifactKind.COMPACT, write_on_a_faulty_disk)
    with pytest.raises(VerificationFailed, match=r"model\.mpz"):
        _compress(folder, _task(folder, module, PRUNE, data=False))
    assert folder.names() == set()


def test_memory_that_runs_out_names_the_step_and_what_to_do(
    module: nn.Module, folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(network: Network, step: Any, context: StepContext) -> StepResult:
        torch.empty(2**60, dtype=torch.uint8)
        return StepResult(network)

    monkeypatch.setitem(STEPS, "finetune", greedy)
    finetune = {"kind": "finetune", "training": {**TRAINING, "batch_size": 96}}
    with pytest.raises(OutOfMemory, match=r"step 1 \(finetune\).*lower its `training.batch_size` \(now 96\)") as caught:
        _compress(folder, _task(folder, module, PRUNE, finetune))
    assert caught.value.step == 1
    assert folder.names() == set()


def _without_room_for(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch run out of memory over batches of more images."""
    given = accumulation._forward_backward

    def forward_backward(network: nn.Module, batch: torch.Tensor, *more: Any) -> torch.Tensor:
        if len(batch) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return given(network, batch, *more)

    monkeypatch.setattr(accumulation, "_forward_backward", forward_backward)


def test_a_batch_that_does_not_fit_is_tried_once_more_in_halves(
    module: nn.Module, folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for the halves of the first step's, and not for those of the second's."""
    _without_room_for(48, monkeypatch)
    steps = [{"kind": "finetune", "training": {**TRAINING, "epochs": 1, "batch_size": batch}} for batch in (96, 200)]
    task = TASK.validate_python(_task(folder, module, *steps) | {"checkpoint_seconds": 3600})
    assert isinstance(task, Compress)
    events: list[Any] = []
    with pytest.raises(OutOfMemory, match=r"the GPU's memory ran out .*`training.batch_size` from 200 to 50") as caught:
        compress(task, folder.path, events.append)
    assert caught.value.step == 1
    assert [event.step for event in events if isinstance(event, StageDone)] == [None, 0]
    told = [event.message for event in events if isinstance(event, Warned)]
    assert [
        message.partition(" did not fit into the GPU's memory, so each was computed in two halves")[0]
        for message in told
    ] == [
        "step 0 (finetune): a batch of 96 images",
        "step 1 (finetune): a batch of 200 images",
    ]
    # The first step is kept for this job, and for no other that asks for whole batches.
    kept = [event for event in events if isinstance(event, Checkpointed) and event.part == "steps"]
    assert [(event.steps, event.sha256) for event in kept] == [(0, None)] * 2


def test_an_error_of_a_step_names_the_step(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, PRUNE, {**PRUNE, "sparsity": 0.5}, data=False)
    with pytest.raises(IncompatibleSpec, match="are zero already") as caught:
        _compress(folder, task)
    assert caught.value.failure.step == 1


def test_a_gpu_that_is_not_there(module: nn.Module, folder: WorkFolder) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    task = {**_task(folder, module, PRUNE, data=False), "device": "cuda"}
    with pytest.raises(IncompatibleSpec, match="torch sees no GPU here"):
        _compress(folder, task)


def test_a_network_that_guesses_is_warned_of(folder: WorkFolder) -> None:
    torch.manual_seed(1)
    guessing = build(ArchitectureRef.model_validate(ARCHITECTURE))
    with torch.no_grad():
        guessing.get_parameter("classifier.6.weight").zero_()
    task = _task(folder, guessing, {"kind": "prune", "sparsity": 0.99})
    del task["model"]["preprocessing"]
    events = _compress(folder, task)
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert re.match(
        r"the upload names no preprocessing, so pixels are normalised by the data set's own mean", warnings[0]
    )
    assert "the original is right on 25.0% of the held-out images" in warnings[1]


def test_an_8_bit_file_is_made_measured_and_held_to_the_goal(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(
        folder,
        module,
        {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.25}, "training": TRAINING},
        artifacts=["onnx_int8", "compact"],
        calibration_images=32,
        goal={"min_accuracy_retention": 0.5, "min_compression_ratio": 1.5},
    )
    _compress(folder, task)
    # The fp32 graph that it is made of was not asked for, and is gone.
    assert folder.artifacts == {"model.mpz", "model.int8.onnx"}
    report = folder.report
    assert [proof.kind for proof in report.proofs] == ["compact", "onnx_int8"]

    # Accuracy of the 8-bit file by hand: in ONNX Runtime, on the held-out images.
    session = onnxruntime.InferenceSession(str(folder.path / "artifacts/model.int8.onnx"))
    outputs = session.run(None, {"images": _normalised().numpy()})[0]
    _, labels = patterned_images(64, seed=1)
    int8 = report.proofs[1]
    assert int8.accuracy is not None
    assert int8.accuracy.top1 == float((outputs.argmax(1) == labels).mean())
    assert int8.ratios is not None
    assert int8.ratios.stored_bytes == report.baseline.stored_bytes["safetensors"] / int8.bytes

    # The ratios of the report are the network's own; the 8-bit file's latency is in ONNX Runtime as the original's.
    assert report.ratios.stored_bytes == report.baseline.stored_bytes["safetensors"] / report.proofs[0].bytes
    before, after = report.baseline.latency_in(), report.final.latency_in(precision="int8")
    assert before is not None
    assert after is not None
    assert int8.ratios.latency == before.p50_ms / after.p50_ms
    assert {(latency.runtime, latency.precision) for latency in report.final.latencies} == {
        ("pytorch", "fp32"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    }
    # Each stage has its table of layers.
    assert [len(part.layers) for part in (report.baseline, report.stages[0].measurement, report.final)] == [11, 11, 11]
    assert [latency.runtime for latency in report.stages[0].measurement.latencies] == ["pytorch"]


def test_without_data_the_8_bit_file_is_left_out_unless_it_was_named(module: nn.Module, folder: WorkFolder) -> None:
    task = _task(folder, module, PRUNE, data=False, artifacts=None)
    _compress(folder, task)
    assert folder.artifacts == {"model.mpz", "model.safetensors", "model.pt2", "model.onnx"}
    (warning,) = folder.report.warnings
    assert warning.startswith("model.int8.onnx is left out: ")
    assert "`dataset`" in warning
    with pytest.raises(IncompatibleSpec, match="artifacts: onnx_int8 is calibrated on images"):
        _compress(folder, _task(folder, module, PRUNE, data=False, artifacts=["onnx_int8"]))


def test_a_missing_extra_ends_the_job_before_anything_is_read(
    module: nn.Module, folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    task = _task(folder, module, PRUNE, artifacts=["compact", "executorch"])
    (folder.path / "inputs/model").unlink()
    with pytest.raises(IncompatibleSpec, match=r'pip install "modelpress\[executorch\]"'):
        _compress(folder, task)


@pytest.mark.parametrize("kind", [kind for kind, file in ARTIFACT_FILES.items() if file.extra is not None])
def test_a_file_for_another_runtime_is_proven_and_timed_in_it(
    kind: ArtifactKind, module: nn.Module, folder: WorkFolder
) -> None:
    facts = ARTIFACT_FILES[kind]
    pytest.importorskip(facts.extra or "", reason=f"needs the extra `{facts.extra}`")
    _compress(folder, _task(folder, module, PRUNE, artifacts=["compact", kind.value]))
    assert folder.artifacts == {"model.mpz", facts.filename}
    report = folder.report
    compact, proof = report.proofs
    assert (proof.kind, proof.file) == (kind, facts.filename)
    assert proof.largest_difference <= proof.tolerance < 0.1
    assert proof.accuracy is not None
    assert compact.accuracy is not None
    assert proof.accuracy.top1 == compact.accuracy.top1
    assert proof.accuracy.loss == pytest.approx(compact.accuracy.loss, rel=1e-3)
    before, after = report.baseline.latency_in(facts.runtime), report.final.latency_in(facts.runtime)
    assert before is not None
    assert after is not None
    assert proof.ratios is not None
    assert proof.ratios.latency == before.p50_ms / after.p50_ms
    batches = {latency.batch for latency in report.final.latencies if latency.runtime == facts.runtime}
    assert batches == ({1} if facts.fixed_batch else {1, 32})
    assert facts.extra in report.provenance.versions
