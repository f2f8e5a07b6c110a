"""What keeps a step `prune` from a model or its data, known before any work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelpress.spec.check import check
from modelpress.spec.check.prune import prune_misfits
from modelpress.spec.inspection import DatasetInspection, LayerInspection
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Prune
from tests.support.inspections import inspection_of

SHAPES = {"features.0": ("Conv2d", (8, 3, 3, 3)), "features.3": ("Conv2d", (16, 8, 3, 3)), "head": ("Linear", (10, 16))}
MODEL = inspection_of(
    LayerInspection(name=name, type=kind, weight_shape=shape, parameters=100, prunable=True, full_rank=None)
    for name, (kind, shape) in SHAPES.items()
)
DATASET = DatasetInspection(
    format="npz",
    classes=tuple("abcdefghij"),
    train_examples=100,
    heldout_examples=None,
    image_shape=(3, 32, 32),
    statistics=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
)
DISTILL = {"kind": "distill", "student": {"architecture": "nin_cifar"}, "training": {"epochs": 1}}


def misfits(*steps: dict[str, Any], dataset: DatasetInspection | None = DATASET) -> list[tuple[str, str]]:
    recipe = Recipe.model_validate({"steps": steps})
    return [(misfit.where, misfit.message) for misfit in check(recipe, MODEL, dataset)]


def test_gradients_need_data_and_draws_do_not():
    taylor = {"kind": "prune", "sparsity": 0.5, "criterion": "taylor"}
    ((where, message),) = misfits(taylor, dataset=None)
    assert where == "steps.0.criterion"
    assert "`taylor` takes gradients, which needs a data set; give `dataset`" in message
    assert misfits(taylor) == []
    assert misfits(DISTILL, taylor) == []
    assert misfits({**taylor, "criterion": "random"}, dataset=None) == []
    # A training says so already.
    assert [where for where, _ in misfits({**taylor, "training": {"epochs": 1}}, dataset=None)] == ["steps.0"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"sparsity": 0.5, "scope": "lamp", "criterion": "random"}, "lamp is defined for magnitudes"),
        ({"sparsity": 0.5, "criterion": "taylor", "calibration_images": 0}, "greater than or equal to 1"),
        ({"sparsity": 0.5, "criterion": "hessian"}, "Input should be 'magnitude'"),
        ({"sparsity": 0.6, "pattern": {"n": 2, "m": 4}}, "the pattern 2:4 removes 0.5 of the weights, not 0.6"),
        ({"pattern": {"n": 4, "m": 4}}, r"n \(4\) must be below m \(4\)"),
        ({"pattern": {"n": 0, "m": 4}}, "pattern.n\n.*greater than or equal to 1"),
        ({"pattern": {"n": 2, "m": 400}}, "less than or equal to 64"),
        ({"pattern": {"n": 2, "m": 4}, "scope": "lamp"}, "the scope lamp has no say"),
        ({"pattern": {"n": 2, "m": 4}, "schedule": {"kind": "cubic"}, "training": {}}, "a pattern acts at once"),
        ({"pattern": {"n": 2, "m": 4}, "per_layer": {"0": 0.5}}, "leave `per_layer` out"),
        ({"sparsity": 0.5, "per_layer": {"0": 1.0}}, "less than 1"),
        ({"pattern": None}, "Field required"),
        ({"sparsity": 0.5, "criterion": "movement"}, "no weight has moved: with the criterion movement use the"),
        ({"sparsity": 0.5, "criterion": "movement", "schedule": {"kind": "cubic"}}, "acts during training"),
        ({"sparsity": 0.5, "criterion": "movement", "schedule": {"kind": "rigl"}, "training": {}}, "when rigl prunes"),
        ({"pattern": {"n": 2, "m": 4}, "criterion": "movement"}, "a pattern acts before the training"),
        ({"sparsity": 0.5, "criterion": "movement", "scope": "lamp", "schedule": {"kind": "cubic"}}, "lamp is defined"),
        ({"sparsity": 0.5, "schedule": {"kind": "rigl"}}, "exchanges weights during training: give `training`"),
        ({"sparsity": 0.5, "schedule": {"kind": "rigl", "drop": 0.0}, "training": {}}, "greater than 0"),
        ({"pattern": {"n": 2, "m": 4}, "schedule": {"kind": "rigl"}, "training": {}}, "a pattern acts at once"),
    ],
)
def test_what_no_step_can_be(spec: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        Prune.model_validate(spec)


@pytest.mark.parametrize("sparsity", [{}, {"sparsity": 2 / 3}, {"sparsity": 0.666667}])
def test_a_pattern_says_the_sparsity(sparsity: dict[str, float]):
    step = Prune.model_validate({"pattern": {"n": 1, "m": 3}, **sparsity})
    assert step.sparsity == pytest.approx(2 / 3, abs=1e-6)
    assert Prune.model_validate_json(step.model_dump_json()) == step


def test_a_wrong_pattern_is_the_only_thing_that_is_wrong():
    with pytest.raises(ValidationError) as caught:
        Prune.model_validate({"pattern": {"n": 2, "of": 4}})
    assert {error["loc"] for error in caught.value.errors()} == {("pattern", "m"), ("pattern", "of")}


def test_a_pattern_fits_some_layer():
    step = {"kind": "prune", "pattern": {"n": 2, "m": 4}}
    assert misfits(step) == []
    ((where, message),) = misfits({**step, "layers": {"include": ["features.0"]}})
    assert where == "steps.0.pattern"
    assert "multiple of 4, which the pattern 2:4 needs" in message
    ((where, _),) = misfits({**step, "pattern": {"n": 2, "m": 5}})
    assert where == "steps.0.pattern"


@pytest.mark.parametrize(
    ("per_layer", "words"),
    [
        ({"haed": 0.5}, "no layer matches 'haed'; the layers are features.0, features.3"),
        ({"features.*": 0.5, "features.0": 0.2}, "name each layer by one pattern"),
        ({"head": 0.2}, "no layer matches 'head'"),  # it is not among the chosen
    ],
)
def test_sparsities_of_layers_that_are_not_there(per_layer: dict[str, float], words: str):
    step = {"kind": "prune", "sparsity": 0.5, "layers": {"exclude": ["head"]}}
    assert misfits({**step, "per_layer": {"features.0": 0.2}}) == []
    ((where, message),) = misfits({**step, "per_layer": per_layer})
    assert where == "steps.0.per_layer"
    assert words in message


def test_a_training_too_short_for_a_single_exchange():
    """100 images in batches of 32 are 4 steps an epoch; `end` is behind three quarters of them."""
    step = {"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "rigl", "frequency": 12}}
    assert misfits({**step, "training": {"epochs": 5, "batch_size": 32}}) == []
    assert misfits({**step, "training": {"epochs": 10, "epoch_share": 0.5, "batch_size": 32}}) == []
    assert len(misfits({**step, "training": {"epochs": 5, "epoch_share": 0.5, "batch_size": 32}})) == 1
    ((where, message),) = misfits(DISTILL, {**step, "training": {"epochs": 4, "batch_size": 32}})
    assert where == "steps.1.schedule"
    assert message.startswith("the schedule rigl exchanges weights every 12 steps, before step 12 of the training's 16")
    # Without data the training is what is wrong.
    assert [where for where, _ in misfits({**step, "training": {}}, dataset=None)] == ["steps.0"]


def test_a_pattern_is_of_the_inputs_of_one_group():
    weights = {"type": "ConvTranspose2d", "weight_shape": (8, 4, 3, 3), "parameters": 288, "prunable": True}
    step = Prune.model_validate({"pattern": {"n": 2, "m": 4}})
    found = []
    for groups in (1, 2, 4):
        layer = LayerInspection(name="up", groups=groups, full_rank=None, **weights)
        found.append(len(prune_misfits(step, [layer], "steps.0")))
    assert found == [0, 0, 1]
