"""Which work is the same: what the front asks before a job is run, and the engine before it takes up what was kept.

    fingerprint    of the first n steps of a recipe on these inputs: the network that they make
    identity       of a whole job: also its goal, its files, and the release that makes them

Both go by content: two uploads of the same bytes are the same input. Names, priorities, needs and the machine are no
part of either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from modelpress import __version__
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Distill, Step
from modelpress.spec.student import Uploaded

ENGINE_VERSION = 5
"""Raise it when what is kept of steps changes its meaning, a step comes to other weights, or a field of a step gets
another default: what an engine with another number has kept is left alone. Releases that leave all that as it is
take up each other's jobs."""


class GivenModel(Config):
    """A model's bytes, and what its owner said of them."""

    format: ModelFormat = Field(description="Format of the file.")
    architecture: ArchitectureRef | None = Field(
        default=None, description="The network that its weights are for; null where the file itself says it."
    )
    image_size: int | None = Field(default=None, description="Height and width, where not the architecture's default.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="What is done to pixels before the network; null where the owner did not say."
    )
    sha256: str = Field(description="SHA-256 of the file.")


@dataclass(frozen=True)
class Inputs:
    """What a recipe is carried out on."""

    model: GivenModel
    dataset: str | None  # SHA-256 of its bytes
    students: Mapping[str, GivenModel] = field(default_factory=dict)  # by the ids that the recipe names


def step_fingerprints(inputs: Inputs, recipe: Recipe) -> tuple[str, ...]:
    """SHA-256 of all that decides what steps make; item n is that of the first n, item 0 that of the inputs alone.

    Not the machine: what one has begun may go on on another.
    """
    given = {
        "version": ENGINE_VERSION,
        "model": _said_of(inputs.model),
        "dataset": inputs.dataset,
        "seed": recipe.seed,
    }
    steps = [_asked_of(step, inputs.students) for step in recipe.steps]
    return tuple(_digest({**given, "steps": steps[:count]}) for count in range(len(steps) + 1))


def job_identity(inputs: Inputs, recipe: Recipe) -> str:
    """SHA-256 of all that decides what a job's files and report say, but for what a clock measures."""
    return _digest(
        {
            "release": __version__,
            "steps": step_fingerprints(inputs, recipe)[-1],
            **recipe.model_dump(mode="json", include={"goal", "artifacts", "calibration_images"}),
        }
    )


def _said_of(model: GivenModel) -> object:
    # Of subclasses, which say where the file lies, only what is said here.
    return model.model_dump(mode="json", include=set(GivenModel.model_fields))


def _asked_of(step: Step, students: Mapping[str, GivenModel]) -> object:
    asked: dict[str, Any] = _meant(step, step.model_dump(mode="json"))
    # One that was not given is refused, with a better word, when the step is checked.
    if isinstance(step, Distill) and isinstance(step.student, Uploaded) and step.student.model in students:
        asked["student"]["model"] = _said_of(students[step.student.model])
    return asked


def _meant(value: object, dumped: Any) -> Any:
    """What was dumped of a value, less the fields that are as they are by default.

    So that a field which a later version adds changes nothing for steps that do not ask for it. `kind` says which of
    several types it is.
    """
    if isinstance(value, BaseModel):
        return {
            name: _meant(getattr(value, name), dumped[name])
            for name, field in type(value).model_fields.items()
            if name == "kind"
            or field.is_required()
            or getattr(value, name) != field.get_default(call_default_factory=True, validated_data={})
        }
    if isinstance(value, tuple):
        return [_meant(item, part) for item, part in zip(value, dumped, strict=True)]
    return dumped


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
