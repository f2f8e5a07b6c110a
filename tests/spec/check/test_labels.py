from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.check import check
from modelpress.spec.inspection import DatasetInspection, LayerInspection
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing
from tests.support.inspections import inspection_of

LAYER = LayerInspection(
    name="features.0", type="Conv2d", weight_shape=(8, 3, 3, 3), parameters=224, prunable=True, full_rank=8
)
MODEL = inspection_of([LAYER])
UNLABELLED = DatasetInspection(
    format="npy",
    classes=(),
    train_examples=100,
    unlabelled_examples=100,
    heldout_examples=None,
    image_shape=(3, 32, 32),
    statistics=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
)
PRUNE = {"kind": "prune", "sparsity": 0.5}
DISTILL = {"kind": "distill", "student": {"architecture": "nin_cifar"}, "training": {"epochs": 1}}
CHANNELS = {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}}


def _check(step: dict[str, Any], dataset: DatasetInspection = UNLABELLED) -> list[tuple[str, str]]:
    return [(found.where, found.message) for found in check(Recipe.model_validate({"steps": [step]}), MODEL, dataset)]


@pytest.mark.parametrize(
    "step",
    [
        PRUNE,
        {**PRUNE, "training": {"epochs": 1, "teacher": "original"}},
        CHANNELS,
        DISTILL,
        # Layers are compared without a label too.
        {**DISTILL, "loss": {"kind": "relational", "alpha": 0}},
    ],
)
def test_what_a_teacher_teaches_needs_no_labels(step: dict[str, Any]) -> None:
    assert _check(step) == []


@pytest.mark.parametrize(
    ("step", "where", "message"),
    [
        ({**PRUNE, "training": {"epochs": 1}}, "steps.0.training.teacher", "use `teacher: original`"),
        ({"kind": "finetune", "training": {"epochs": 1}}, "steps.0.training.teacher", "use `teacher: original`"),
        ({**PRUNE, "training": {"epochs": 1, "teacher": "original", "alpha": 0}}, "steps.0.training.alpha", "raise it"),
        ({**DISTILL, "alpha": 0}, "steps.0.alpha", "the original has no say either"),
        ({**DISTILL, "loss": {"kind": "hinton", "alpha": 0}}, "steps.0.loss.alpha", "the original has no say either"),
        ({**PRUNE, "criterion": "taylor"}, "steps.0.criterion", "no image has a label: use `magnitude`"),
        ({**CHANNELS, "criterion": "taylor"}, "steps.0.criterion", "no image has a label: use `l2`"),
    ],
)
def test_what_labels_are_needed_for(step: dict[str, Any], where: str, message: str) -> None:
    ((found, said),) = _check(step)
    assert found == where
    assert message in said
    # A single labelled image is enough to begin with.
    assert _check(step, UNLABELLED.model_copy(update={"unlabelled_examples": 99})) == []
