"""`modelpress methods`, `recipes`, `architectures`: what there is to ask for."""

from __future__ import annotations

from typing import Annotated

import typer

from modelpress.client.cli import options, screen
from modelpress.client.client import Client
from modelpress.client.errors import InvalidRecipe
from modelpress.spec.architecture import Family
from modelpress.spec.recipes import NAMES, ready_recipe, recipe_text


def methods(url: options.Url = None, as_json: options.Json = False) -> None:
    """List the compression methods; --json gives the JSON Schema of each one's step."""
    with Client(url) as client:
        found = client.methods()
    if as_json:
        screen.answer_json(found)
        return
    rows = [(method.kind, method.summary, "needs data" if method.needs_data else "", method.source) for method in found]
    screen.answer_table(("kind", "what it does", "data", "source"), rows)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one as YAML, to change and submit.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the ready recipes, or print one."""
    if name is not None and name not in NAMES:
        raise InvalidRecipe(f"there is no recipe {name!r}; there are {', '.join(NAMES)}")
    if as_json:
        screen.answer_json(ready_recipe(name) if name is not None else [ready_recipe(each) for each in NAMES])
    elif name is not None:
        screen.answer(recipe_text(name).rstrip())
    else:
        screen.answer_table(("name", "what it is for"), [(each, ready_recipe(each).summary) for each in NAMES])


def architectures(
    family: Annotated[Family | None, typer.Option(help="Only those whose modules these people wrote.")] = None,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """List the architectures that a model or a student can have."""
    with Client(url) as client:
        found = client.architectures(family)
    if as_json:
        screen.answer_json(found)
        return
    rows = [
        (
            entry.name,
            entry.summary,
            ", ".join(f"{name}={value}" for name, value in entry.arguments.items()),
            " x ".join(map(str, entry.input_shape)),
        )
        for entry in found
    ]
    screen.answer_table(("name", "what it is", "arguments", "input"), rows)
