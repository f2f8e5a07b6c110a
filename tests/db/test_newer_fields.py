"""Which jobs the code of the version before can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from sqlalchemy.dialects import sqlite

from db import migrate
from db.models import NEWER_THAN_SERVED, Job
from modelpress.spec.job import JobSpec

# The names of all fields of a job's spec, by type, as the code before the newest migration knew them.
KNOWN = json.loads((Path(__file__).parent / "spec_fields.json").read_text())
TRAINED = {"training": {"epochs": 1}}
STEPS = [
    {"kind": "prune", "sparsity": 0.5, **TRAINED},
    {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}, **TRAINED},
    {"kind": "factorize", "rank": {"kind": "energy", "value": 0.9}, **TRAINED},
    {"kind": "distill", "student": {"architecture": "nin_cifar", "arguments": {"rate": 0.0}}, **TRAINED},
    {"kind": "quantize", "bits": 4, **TRAINED},
    {"kind": "finetune", **TRAINED},
    {"kind": "quantize", "bits": 4},
]


def stored(spec: JobSpec) -> dict[str, object]:
    found: dict[str, object] = Job.__table__.c.spec.type.process_bind_param(spec, sqlite.dialect())
    return found


def test_the_newest_migration_is_the_one_that_these_fields_are_since() -> None:
    assert KNOWN["revision"] == migrate.head(), "record the fields anew, and begin anew with NEWER_THAN_SERVED"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["kind"])
def test_a_job_that_asks_for_nothing_new_has_no_new_field(step: dict[str, object]) -> None:
    spec = JobSpec.model_validate({"model": "mdl_1", "dataset": "dts_1", "steps": [step]})
    document = stored(spec)
    assert set(document) <= set(KNOWN["types"]["JobSpec"])
    (asked,) = document["steps"]  # type: ignore[misc]
    kind = type(spec.steps[0]).__name__
    assert set(asked) <= set(KNOWN["types"][kind])
    if spec.steps[0].training is not None:
        assert set(asked["training"]) <= set(KNOWN["types"][type(spec.steps[0].training).__name__])
    # What is left out is what it is by default, and what is a user's own stays.
    assert TypeAdapter(JobSpec).validate_python(document) == spec
    if step["kind"] == "distill":
        assert asked["student"]["arguments"] == {"rate": 0.0}


def test_what_is_asked_for_is_kept() -> None:
    training = {"epochs": 1, "epoch_share": 0.5, "progressive_resizing": {}}
    steps = [{"kind": "quantize", "bits": 4, "rate": 0.2, "training": training}]
    document = stored(JobSpec.model_validate({"model": "mdl_1", "dataset": "dts_1", "steps": steps, "reuse": False}))
    (asked,) = document["steps"]  # type: ignore[misc]
    assert (document["reuse"], asked["rate"], asked["training"]["epoch_share"]) == (False, 0.2, 0.5)
    assert len({path for path, _ in NEWER_THAN_SERVED}) == len(NEWER_THAN_SERVED)
