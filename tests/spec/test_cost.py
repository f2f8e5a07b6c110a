"""Estimates of jobs against sums by hand: lower bounds, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.cost import ENGINE_BYTES, FIXED_SECONDS, FRESH_BYTES, STEP_SECONDS, JobEstimate, estimate_job
from modelpress.spec.inspection import DatasetInspection, Footprint, ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.needs import Capacity, Least, Needs
from modelpress.spec.network import Preprocessing
from tests.support.inspections import inspection_of

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WEIGHTS = 4 * 1000  # bytes of the model of a thousand weights and 5,000 multiply-accumulates
MODEL = inspection_of(()).model_copy(update={"footprint": Footprint(forward_bytes=2 * KIB, training_bytes=8 * MIB)})
DATASET = DatasetInspection(
    format="npz",
    classes=("a", "b"),
    train_examples=1000,
    heldout_examples=100,
    image_shape=(3, 32, 32),
    statistics=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3),
)
BESIDE = ENGINE_BYTES + 1100 * 3 * 32 * 32 + WEIGHTS
TRAINING = {"epochs": 2, "batch_size": 256, "precision": "fp32"}


def estimate(*steps: dict[str, Any], **more: Any) -> JobEstimate:
    found = estimate_job(Recipe.model_validate({"steps": steps}), MODEL, DATASET, more)
    assert found is not None
    return found


def finetune(**training: Any) -> dict[str, Any]:
    return {"kind": "finetune", "training": TRAINING | training}


def test_a_training_by_hand():
    """Weights and momentum, and of each image of a batch what the backward pass needs; three passes an image."""
    found = estimate(finetune())
    (step,) = found.steps
    assert (step.fixed_bytes, step.image_bytes, step.batch_size) == (2 * WEIGHTS, 8 * MIB, 256)
    assert found.cpu_memory_bytes == BESIDE + 2 * WEIGHTS + 256 * 8 * MIB
    assert found.cuda_memory_bytes == BESIDE + FRESH_BYTES
    assert found.process_bytes == BESIDE
    assert found.gpu_memory_bytes == 2 * WEIGHTS + 128 * 8 * MIB  # a batch that does not fit is halved
    assert step.macs == 5000 * (2 * 1000 * 3 + 100)
    assert found.macs == step.macs + 100 * 4 * 5000
    assert found.step == 0
    assert found.fixed_seconds == FIXED_SECONDS + STEP_SECONDS


@pytest.mark.parametrize(
    ("training", "fixed", "image"),
    [
        ({"momentum": 0.0}, 1, 8),
        ({"optimizer": "adamw"}, 3, 8),
        ({"ema": 0.9}, 3, 8),
        ({"teacher": "original"}, 3, 8),
        ({"precision": "auto"}, 2, 4),  # bf16 may be chosen
        ({"precision": "bf16"}, 2, 4),
    ],
)
def test_what_lies_beside_the_batch(training: dict[str, Any], fixed: int, image: int):
    (step,) = estimate(finetune(**training)).steps
    assert (step.fixed_bytes, step.image_bytes) == (fixed * WEIGHTS, image * MIB)


@pytest.mark.parametrize(
    ("augmentation", "view", "passes"),
    [
        ({}, "augmented", 1),
        ({"horizontal_flip": True}, "augmented", 2),
        ({"crop_padding": 2, "horizontal_flip": True}, "augmented", 6),
        ({"mixup": 0.2}, "augmented", 6),
        ({"crop_padding": 2, "cutout": 4}, "plain", 1),
        ({"random_erasing": 0.5, "horizontal_flip": True}, "plain", 2),
    ],
)
def test_a_teacher_is_asked_as_often_as_images_change(augmentation: dict[str, Any], view: str, passes: int):
    training = {"epochs": 6, "augmentation": augmentation}
    taught = {"teacher": "original", "teacher_view": view}
    student = {"kind": "distill", "student": {"kind": "current"}, "teacher_view": view, "training": training}
    steps = [finetune(**training, **taught), student, {**student, "loss": {"kind": "logits"}}]
    assert [each.macs for each in estimate(*steps).steps] == [5000 * (1000 * (6 * 3 + passes) + 100)] * 3


def test_a_student_by_the_labels_alone_asks_nobody_and_one_that_looks_inside_asks_each_time():
    student = {"kind": "distill", "student": {"kind": "current"}, "training": {"epochs": 6}}
    steps = [{**student, "alpha": 0.0}, {**student, "loss": {"kind": "relational"}}]
    assert [each.macs for each in estimate(*steps).steps] == [5000 * (1000 * each + 100) for each in (18, 24)]


@pytest.mark.parametrize(("epochs", "share", "view", "asked"), [(2, 0.25, "augmented", 500), (9, 0.5, "plain", 2000)])
def test_an_epoch_of_a_part_of_the_images_takes_that_part_of_the_time(epochs: int, share: float, view: str, asked: int):
    augmentation = {"horizontal_flip": True, "crop_padding": 4}
    training = {"epochs": epochs, "epoch_share": share, "augmentation": augmentation}
    (step,) = estimate(finetune(**training, teacher="original", teacher_view=view)).steps
    assert step.macs == 5000 * (1000 * epochs * share * 3 + asked + 100)


def test_smaller_images_take_less_time():
    resizing = {"scale": 0.5, "until": 0.5}
    (step,) = estimate(finetune(epochs=10, progressive_resizing=resizing)).steps
    assert step.macs == 5000 * (1000 * 3 * (5 * 0.25 + 5) + 100)


@pytest.mark.parametrize(("share", "largest"), [(1.0, 1000), (0.01, 10)])
def test_a_batch_is_no_larger_than_an_epoch(share: float, largest: int):
    (step,) = estimate(finetune(batch_size=5000, epoch_share=share)).steps
    assert step.batch_size == largest


@pytest.mark.parametrize(
    ("step", "fixed", "image"),
    [
        ({"kind": "distill", "student": {"architecture": "snn_1k"}}, 1, 0),  # the teacher; of the student, nothing
        ({"kind": "distill", "student": {"kind": "thinner", "width": 0.5}}, 2 * 0.25 + 1, 4),
        ({"kind": "distill", "student": {"kind": "current"}}, 3, 8),
        ({"kind": "distill", "student": {"kind": "uploaded", "model": "mdl_b"}}, 2 * 10 + 1, 80),
        ({"kind": "factorize", "rank": {"kind": "ratio", "value": 0.1}}, 0, 8),  # fewer weights, no fewer activations
        ({"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}}, 2 * 0.25, 4),
        ({"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}}, 0, 2),
        ({"kind": "prune", "sparsity": 0.9}, 2, 8),
    ],
)
def test_networks_that_steps_make(step: dict[str, Any], fixed: float, image: int):
    larger = MODEL.model_copy(
        update={"parameters": 10_000, "footprint": Footprint(forward_bytes=20 * KIB, training_bytes=80 * MIB)}
    )
    found = estimate({**step, "training": TRAINING}, mdl_b=larger)
    assert found.steps[0].fixed_bytes == int(fixed * WEIGHTS)
    assert found.steps[0].image_bytes == image * MIB


def test_the_step_that_needs_most_is_named():
    found = estimate(finetune(batch_size=64), {"kind": "quantize", "bits": 8}, finetune(batch_size=512))
    assert found.step == 2
    assert found.steps[1].batch_size is None
    # Of a step without a training it is what measures the network: the layer that is largest, on every held-out image.
    untrained = estimate({"kind": "prune", "sparsity": 0.5})
    assert untrained.step is None
    assert untrained.cpu_memory_bytes == BESIDE + FRESH_BYTES + 100 * 2 * KIB


def test_what_an_older_version_inspected_has_no_estimate():
    old: ModelInspection = inspection_of(())
    recipe = Recipe.model_validate({"steps": [finetune()]})
    assert estimate_job(recipe, old, DATASET) is None
    student = {"kind": "distill", "student": {"kind": "uploaded", "model": "mdl_b"}, "training": TRAINING}
    assert estimate_job(Recipe.model_validate({"steps": [student]}), MODEL, DATASET, {"mdl_b": old}) is None


def test_a_batch_that_would_fit():
    found = estimate(finetune(batch_size=1000))
    room = BESIDE + 2 * WEIGHTS + 100 * 8 * MIB
    assert found.fitting_batch(0, room, "cpu") == 100
    assert found.fitting_batch(0, room + 9 * GIB, "cpu") == 500  # half, as the whole one did not
    assert found.fitting_batch(0, BESIDE, "cpu") == 0
    assert found.fitting_batch(0, 2 * WEIGHTS + 100 * 8 * MIB, "cuda") == 100
    assert found.fitting_batch(7, room, "cpu") is None


def test_needs_that_are_named_take_the_place_of_the_estimate():
    found = estimate(finetune())
    assert found.least(Needs()) == Least(
        cpu_memory_bytes=found.cpu_memory_bytes,
        cuda_memory_bytes=found.cuda_memory_bytes,
        gpu_memory_bytes=found.gpu_memory_bytes,
    )
    assert found.least(Needs(memory_bytes=1)) == Least(gpu_memory_bytes=found.gpu_memory_bytes)
    assert found.least(Needs(device="cuda", gpu_memory_bytes=1)).gpu_memory_bytes == 0


def test_a_worker_lacks_what_the_estimate_says_of_its_device():
    cpu = Capacity(device="cpu", cores=1, memory_bytes=2 * GIB)
    gpus = Capacity(device="cuda", cores=1, memory_bytes=2 * GIB, gpu_memory_bytes=2 * GIB, gpus=2)
    least = Least(cpu_memory_bytes=3 * GIB, cuda_memory_bytes=GIB, gpu_memory_bytes=4 * GIB)
    assert cpu.lacks(Needs(), least) == {"memory_bytes": "3.0 GiB of memory"}
    assert gpus.lacks(Needs(), least) == {}
    assert gpus.lacks(Needs(), Least(gpu_memory_bytes=5 * GIB)) == {"gpu_memory_bytes": "5.0 GiB of GPU memory"}
    assert cpu.lacks(Needs(), Least(gpu_memory_bytes=5 * GIB)) == {}
    assert gpus.in_words().startswith("cuda with 2 x 2.0 GiB")
