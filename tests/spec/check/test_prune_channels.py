"""What keeps a step `prune_channels` from a model or its data, known before any work."""

from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.check import check
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.job import Recipe
from tests.support.inspections import inspection_of

CONVOLUTION = LayerInspection(
    name="conv", type="Conv2d", weight_shape=(8, 3, 3, 3), parameters=100, prunable=True, full_rank=None
)
MODEL = inspection_of([CONVOLUTION])


def misfits(**options: Any) -> list[tuple[str, str]]:
    step = {"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}, **options}
    found = check(Recipe.model_validate({"steps": [step]}), MODEL, None)
    return [(misfit.where, misfit.message) for misfit in found]


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_criteria_that_take_gradients_need_data(criterion: str) -> None:
    message = f"the criterion `{criterion}` takes gradients, which needs a data set; give `dataset`, or use `l2`"
    assert misfits(criterion=criterion) == [("steps.0.criterion", message)]


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "geometric_median", "random"])
def test_others_do_not(criterion: str) -> None:
    assert misfits(criterion=criterion) == []


def test_a_training_s_need_of_data_is_told_once() -> None:
    ((where, message),) = misfits(criterion="taylor", training={"epochs": 1})
    assert where == "steps.0"
    assert "trains, which needs a data set" in message


def test_layers_that_are_not_there() -> None:
    ((where, message),) = misfits(layers={"include": ["head"]})
    assert where == "steps.0.layers"
    assert message.startswith("no layer matches 'head'")
