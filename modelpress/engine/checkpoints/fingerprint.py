"""Which task a checkpoint belongs to."""

from __future__ import annotations

import hashlib
import json

from modelpress.spec.task import Compress, ModelFile

VERSION = 1
"""Raise it when what is kept changes its meaning, or a step comes to other weights: a checkpoint of an engine with
another number is left alone. Releases that leave both as they are take up each other's jobs."""


def fingerprint(task: Compress) -> str:
    """SHA-256 of all that decides what the steps of a task do: inputs, recipe, and this engine's version of them.

    Not the machine: a job may go on on another one.
    """
    facts = {
        "version": VERSION,
        "model": _said_of(task.model),
        "dataset": None if task.dataset is None else task.dataset.sha256,
        "students": {name: _said_of(student) for name, student in task.students.items()},
        "recipe": task.recipe.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _said_of(model: ModelFile) -> object:
    return model.model_dump(mode="json", exclude={"path", "lineage"})
