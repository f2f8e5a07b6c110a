"""Patterns that are too much work on a model's layers are refused before any is tried."""

from __future__ import annotations

import time
from typing import Any

from modelpress.spec.check import check
from modelpress.spec.check.work import MOST_WORK, work_of_patterns
from modelpress.spec.inspection import LayerInspection, ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.steps import Prune
from tests.support.inspections import inspection_of


def model(names: list[str]) -> ModelInspection:
    return inspection_of(
        LayerInspection(
            name=name, type="Conv2d", weight_shape=(8, 4, 3, 3), parameters=296, prunable=True, full_rank=12
        )
        for name in names
    )


def prune(*patterns: str) -> dict[str, Any]:
    return {"kind": "prune", "sparsity": 0.5, "layers": {"include": list(patterns)}}


LARGE = model([f"{index:05}." + "a" * 250 for index in range(20_000)])
LIKE_RESNET_152 = model([f"layer{index % 4}.{index // 4}.conv{index % 3}" for index in range(155)])


def test_a_hundred_patterns_on_a_deep_network_are_a_hundredth() -> None:
    step = Prune.model_validate(prune(*(f"{index:02}" + "a" * 37 + "*" for index in range(100))))
    assert 0 < work_of_patterns(step, LIKE_RESNET_152.layers) < MOST_WORK / 50


def test_names_are_no_work() -> None:
    names = [layer.name for layer in LARGE.layers[:900]]
    recipe = Recipe.model_validate({"steps": [prune(*names), prune("*"), {"kind": "quantize"}] * 3})
    assert check(recipe, LARGE, None) == []


def test_all_steps_count_together_and_are_refused_at_once() -> None:
    pattern = r"re:(\d|a)?\d*\.(a?)a*" + "a{0,300}" * 4
    before = time.process_time()
    (misfit,) = check(Recipe.model_validate({"steps": [prune(pattern)] * 5}), LARGE, None)
    assert time.process_time() - before < 10
    # Two steps are below the limit, three above.
    assert misfit.where == "steps.2.layers"
    assert "too much work on this model's 20,000 layers" in misfit.message


def test_as_much_as_is_allowed_takes_seconds() -> None:
    patterns = [rf"re:\d*[{index}a]*\.a*b?" for index in range(4)]
    step = prune(*patterns, "*")
    assert work_of_patterns(Prune.model_validate(step), LARGE.layers) < MOST_WORK
    before = time.process_time()
    assert check(Recipe.model_validate({"steps": [step]}), LARGE, None) == []
    assert time.process_time() - before < 10
