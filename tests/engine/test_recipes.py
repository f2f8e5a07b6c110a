"""Each ready recipe, carried out on a small network with short trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelpress.engine.formats import compact
from modelpress.engine.formats.load import load_network
from modelpress.engine.steps import STEPS
from modelpress.spec.job import Recipe
from modelpress.spec.recipes import NAMES, ready_recipe
from modelpress.spec.steps import step_training
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network

# Of a narrow network, where the parts that are not coded weigh more than in a real one.
SMALLER = {"slimnets": 2.5, "smallest": 8.0, "fastest-cpu": 4.5, "gentle": 6.0, "no-data": 5.0}


@pytest.mark.parametrize("name", NAMES)
def test_its_file_loads_and_is_small(name: str, tmp_path: Path):
    data = noise(8, channels=3, size=32, heldout=2)
    original = network(describe("vgg11_bn_cifar", width=0.25, num_classes=3))
    current = original
    recipe = Recipe.model_validate(ready_recipe(name).recipe)
    needs_data = any(step_training(step) is not None for step in recipe.steps)
    for step in recipe.steps:
        training = step_training(step)
        if training is not None:
            brief = training.model_copy(update={"epochs": 1, "batch_size": 4, "precision": "fp32"})
            step = step.model_copy(update={"training": brief})
        current = STEPS[step.kind](current, step, context(original, data if needs_data else None)).network
    compact.write(current, tmp_path / "model.mpz")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_network(tmp_path / "model.mpz").module(images), current.module(images))
    before = 4 * sum(parameter.numel() for parameter in original.module.parameters())
    assert before > SMALLER[name] * (tmp_path / "model.mpz").stat().st_size
