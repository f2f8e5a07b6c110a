"""The demo's recipes: YAML files that can be read and changed, and how many epochs they get."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from modelpress.client.recipe import read_document

FOLDER = Path(__file__).parent / "recipes"


RECIPES = ("prune", "factorize", "distill", "distill-then-prune")
"""Names of the files, which are numbered, for each data set."""


def read_recipes(dataset: str, names: Collection[str] = RECIPES) -> list[dict[str, Any]]:
    """The recipes of `demo/recipes/<dataset>` of these names, in the order of RECIPES."""
    paths = ((FOLDER / dataset / f"{number}-{name}.yaml", name) for number, name in enumerate(RECIPES, start=1))
    return [read_document(path) for path, name in paths if name in names]


def with_epochs(recipe: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    """The same recipe with every training so long; as it is when `epochs` is None."""
    if epochs is None:
        return recipe
    steps = [step | {"training": step["training"] | {"epochs": epochs}} for step in recipe["steps"]]
    return recipe | {"steps": steps}


def within_budget(
    recipes: list[dict[str, Any]], minutes: float, seconds_per_forward: float, examples: int
) -> list[dict[str, Any]]:
    """The same recipes with their epochs scaled down, each to at least 1, so that all together take about `minutes`.

    `seconds_per_forward` is the original's time for one image. An epoch counts as four forward passes of the original
    over the data: forward and backward (three) and the teacher's (one). A student's are cheaper, so this is a bound.
    """
    total = sum(step["training"]["epochs"] for recipe in recipes for step in recipe["steps"])
    share = min(1.0, minutes * 60 / (total * 4 * seconds_per_forward * examples))
    return [
        recipe
        | {
            "steps": [
                step | {"training": step["training"] | {"epochs": max(1, int(step["training"]["epochs"] * share))}}
                for step in recipe["steps"]
            ]
        }
        for recipe in recipes
    ]
