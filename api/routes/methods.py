"""What can be asked for: the methods, ready recipes, and the networks by name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError

from api import examples
from api.dependencies import Reader
from api.errors import problems
from api.openapi import answer
from api.queries import ArchitectureListQuery
from api.refusals import MissingScope, NoKey
from modelpress.spec.architecture import ARCHITECTURES, Architecture
from modelpress.spec.method import METHODS, Method
from modelpress.spec.recipes import NAMES, ReadyRecipe, ready_recipe

router = APIRouter(prefix="/v1", tags=["methods"])

_USUAL = problems(NoKey, MissingScope)


@router.get(
    "/methods",
    summary="List the methods",
    response_model=list[Method],
    responses=answer(200, "Every method (the example is shortened to one).", examples.ALL_METHODS) | _USUAL,
)
def list_methods(_caller: Reader) -> list[Method]:
    """Every kind of step, with the JSON Schema of its fields: enough to build a form."""
    return list(METHODS.values())


@router.get(
    "/recipes",
    summary="List the ready recipes",
    response_model=list[ReadyRecipe],
    responses=answer(200, "Every ready recipe (the example is shortened to one).", examples.ALL_RECIPES) | _USUAL,
)
def list_recipes(_caller: Reader) -> list[ReadyRecipe]:
    """Recipes to start from: add `model` and `dataset`, change what you like, and hand them in as a job."""
    return [ready_recipe(name) for name in NAMES]


@router.get(
    "/architectures",
    summary="List the architectures",
    response_model=list[Architecture],
    responses=answer(200, "Every architecture (the example is shortened).", examples.ALL_ARCHITECTURES)
    | _USUAL
    | problems(RequestValidationError),
)
def list_architectures(_caller: Reader, query: Annotated[ArchitectureListQuery, Query()]) -> list[Architecture]:
    """Every network that weights can be uploaded for, and that can be a student; some 1,500, or those of a `family`.

    timm's can be read where the workers have the extra `timm`.
    """
    return [entry for entry in ARCHITECTURES.values() if query.family in (None, entry.family)]
