"""Recipes as users write them: a YAML or JSON file, the name of a ready recipe, or the command line's flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modelpress.client.errors import InvalidRecipe
from modelpress.spec.job import JobSpec, Recipe
from modelpress.spec.recipes import NAMES, ready_recipe

RANKS = {"energy": float, "ratio": float, "rank": int}


def read_document(path: Path) -> dict[str, Any]:
    """A mapping from a YAML or JSON file. Raises InvalidRecipe."""
    try:
        # JSON is YAML, as far as recipes go.
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRecipe(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRecipe(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise InvalidRecipe(f"{path} holds no mapping; it should hold at least `steps:`")
    return document


def choose_document(source: str | None, flags: Flags) -> dict[str, Any]:
    """What a command line asks for: `source` is a file or the name of a ready recipe, None where flags name the steps.

    A file of that name wins over a ready recipe. Raises InvalidRecipe.
    """
    if source is None:
        return {"steps": flags.steps()}
    if flags.given:
        raise InvalidRecipe("steps come from a recipe or from flags, not from both: leave one out")
    path = Path(source)
    if not path.exists() and source in NAMES:
        return dict(ready_recipe(source).recipe)
    if not path.is_file():
        raise InvalidRecipe(
            f"{source!r} is neither a file nor a ready recipe; `modelpress recipes` lists those: {', '.join(NAMES)}"
        )
    return read_document(path)


def read_recipe(document: Mapping[str, Any]) -> Recipe:
    """A recipe; what a job says beside it (`model`, `dataset`, `priority`...) is left aside. Raises InvalidRecipe."""
    beside = JobSpec.model_fields.keys() - Recipe.model_fields.keys()
    fields = {name: value for name, value in document.items() if name not in beside}
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise InvalidRecipe(_readable(error, document)) from error


def read_job(document: Mapping[str, Any]) -> JobSpec:
    """A job. Raises InvalidRecipe."""
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise InvalidRecipe(_readable(error, document)) from error


@dataclass(frozen=True)
class Flags:
    """Steps as flags name them; None where a flag was not given."""

    distill: str | None = None
    factorize: str | None = None
    prune: float | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    teacher: bool = False
    flip: bool = False
    crop_padding: int | None = None

    def steps(self) -> list[dict[str, Any]]:
        """The steps, in the order in which they go well together: distill, factorize, prune.

        Each is trained for `epochs`; without `epochs` only a student is trained. Under a training, pruning is
        gradual. Raises InvalidRecipe when no step is named, or a flag has nothing to act on.
        """
        steps: list[dict[str, Any]] = []
        if self.distill is not None:
            steps.append({"kind": "distill", "student": {"architecture": self.distill}, "training": self._training()})
        recovery = None if self.epochs is None else self._training() | {"teacher": "original" if self.teacher else None}
        if self.factorize is not None:
            steps.append({"kind": "factorize", "rank": _rank(self.factorize), "training": recovery})
        if self.prune is not None:
            schedule = {"kind": "one_shot" if recovery is None else "cubic"}
            steps.append({"kind": "prune", "sparsity": self.prune, "schedule": schedule, "training": recovery})
        if not steps:
            raise InvalidRecipe("no step: give a recipe's file, or --distill, --factorize or --prune")
        if self.epochs is None and self.distill is None and (self._training() or self.teacher):
            raise InvalidRecipe("there is no training for these flags to act on: give --epochs")
        return steps

    @property
    def given(self) -> bool:
        """True when any flag was given."""
        return self != Flags()

    def _training(self) -> dict[str, Any]:
        augmentation = {"horizontal_flip": self.flip or None, "crop_padding": self.crop_padding}
        augmentation = {name: value for name, value in augmentation.items() if value is not None}
        training = {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "augmentation": augmentation or None,
        }
        return {name: value for name, value in training.items() if value is not None}


def _rank(text: str) -> dict[str, Any]:
    kind, _, value = text.partition("=")
    if kind not in RANKS:
        raise InvalidRecipe(f"--factorize {text!r}: write energy=0.9, ratio=0.25 or rank=16")
    try:
        number = RANKS[kind](value)
    except ValueError:
        raise InvalidRecipe(f"--factorize {text!r}: {value!r} is not a number") from None
    return {"kind": "number" if kind == "rank" else kind, "value": number}


def _readable(error: ValidationError, document: Mapping[str, Any]) -> str:
    details = error.errors(include_url=False)
    # A list whose every item is wrong counts as too short, which says nothing that the items do not.
    echoes = [
        detail
        for detail in details
        if detail["type"] == "too_short" and any(len(other["loc"]) > len(detail["loc"]) for other in details)
    ]
    return "; ".join(
        f"{_place(detail['loc'], document) or 'recipe'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in details
        if detail not in echoes
    )


def _place(location: tuple[int | str, ...], document: Any) -> str:
    """`steps.0.sparsity`, without the alternatives' names that pydantic puts between (`steps.0.prune.sparsity`)."""
    parts = []
    for part in location:
        if isinstance(document, Mapping):
            if part not in document and part == document.get("kind", "named"):
                continue
            document = document.get(part)
        elif isinstance(document, Sequence) and isinstance(part, int):
            document = document[part]
        parts.append(str(part))
    return ".".join(parts)
