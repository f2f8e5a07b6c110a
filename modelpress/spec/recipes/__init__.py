"""Ready recipes by name, each a plain YAML file beside this one that a user can read, copy and change.

To add one: its file, whose comment at the top says what it is for, and its name in `NAMES`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml
from pydantic import Field, JsonValue

from modelpress.spec.config import Resource

NAMES = ("slimnets", "smallest", "fastest-cpu", "gentle", "no-data")


class ReadyRecipe(Resource):
    """One entry of `GET /v1/recipes`."""

    name: str = Field(description="What it is called.")
    summary: str = Field(description="What it is for, what it needs and about how long it takes.")
    recipe: dict[str, JsonValue] = Field(
        description="The recipe: with `model` and `dataset` added, the body of `POST /v1/jobs`."
    )


def recipe_text(name: str) -> str:
    """The YAML of a ready recipe. Raises KeyError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise KeyError(name)
    return files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


@cache
def ready_recipe(name: str) -> ReadyRecipe:
    """A ready recipe. Raises KeyError for a name that is not in `NAMES`."""
    text = recipe_text(name)
    comment = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return ReadyRecipe(name=name, summary=" ".join(comment), recipe=yaml.safe_load(text))
