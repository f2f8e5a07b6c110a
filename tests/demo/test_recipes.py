"""The demo's recipes."""

from __future__ import annotations

import pytest

from demo.recipes import read_recipes, with_epochs, within_budget
from modelpress.client.recipe import read_recipe
from modelpress.spec.steps import step_training


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_they_are_the_four_of_the_paper(dataset: str) -> None:
    recipes = read_recipes(dataset)
    kinds = [[step.kind for step in read_recipe(recipe).steps] for recipe in recipes]
    assert kinds == [["prune"], ["factorize"], ["distill"], ["distill", "prune"]]
    assert [recipe["name"] for recipe in recipes] == ["prune", "factorize", "distill", "distill, then prune"]


def _epochs(recipe: dict[str, object]) -> list[int]:
    trainings = [step_training(step) for step in read_recipe(recipe).steps]
    return [training.epochs for training in trainings if training is not None]


def test_epochs_are_the_users_where_given() -> None:
    recipe = read_recipes("digits")[3]
    assert _epochs(with_epochs(recipe, 3)) == [3, 3]
    assert with_epochs(recipe, None) == recipe


def test_a_budget_scales_all_epochs_alike() -> None:
    recipes = [
        {"steps": [{"kind": "finetune", "training": {"epochs": 30}}]},
        {"steps": [{"kind": "finetune", "training": {"epochs": 60}}, {"kind": "finetune", "training": {"epochs": 2}}]},
    ]
    # 92 epochs of four passes over 1,000 images of 3 ms each: 1,104 s.
    assert within_budget(recipes, 1104 / 60 + 0.01, 0.003, 1000) == recipes
    assert within_budget(recipes, 100, 0.003, 1000) == recipes
    assert [_epochs(recipe) for recipe in within_budget(recipes, 1104 / 120 + 0.01, 0.003, 1000)] == [[15], [30, 1]]
    assert [_epochs(recipe) for recipe in within_budget(recipes, 0.001, 0.003, 1000)] == [[1], [1, 1]]
