"""The ready recipes are recipes, and say what they are for."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

import modelpress.spec.recipes
from modelpress.spec.job import Recipe
from modelpress.spec.recipes import NAMES, ready_recipe, recipe_text


def test_every_file_has_its_name_in_the_list():
    found = {path.name for path in files(modelpress.spec.recipes).iterdir() if path.name.endswith(".yaml")}
    assert found == {f"{name}.yaml" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_recipe_with_a_summary(name: str):
    ready = ready_recipe(name)
    assert ready.name == name
    assert ready.summary.endswith(".")
    assert len(ready.summary) > 40
    assert Recipe.model_validate(ready.recipe) == Recipe.model_validate(yaml.safe_load(recipe_text(name)))


def test_another_name_is_refused():
    with pytest.raises(KeyError):
        recipe_text("../method")
