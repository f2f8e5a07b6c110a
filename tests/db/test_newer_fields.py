"""Which jobs the code of the version before can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter
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
    {"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "cubic"}, **TRAINED},
    {
        "kind": "distill",
        "student": {"kind": "thinner", "width": 0.5},
        "loss": {"kind": "hints", "layers": [{"teacher": "features.0", "student": "features.0"}]},
        **TRAINED,
    },
]


def stored(spec: JobSpec) -> dict[str, object]:
    found: dict[str, object] = Job.__table__.c.spec.type.process_bind_param(spec, sqlite.dialect())
    return found


def _unknown(value: object, document: object, place: str = "spec") -> list[str]:
    """The fields of the stored document, however deep, that the types of what it is of did not have."""
    if isinstance(value, BaseModel):
        assert isinstance(document, dict)
        known = KNOWN["types"][type(value).__name__]
        unknown = [f"{place}.{name}" for name in document if name not in known]
        for name, part in document.items():
            unknown += _unknown(getattr(value, name), part, f"{place}.{name}")
        return unknown
    if isinstance(value, tuple):
        assert isinstance(document, list)
        pairs = zip(value, document, strict=True)
        return [each for number, pair in enumerate(pairs) for each in _unknown(*pair, f"{place}.{number}")]
    return []


def test_a_new_field_is_found_wherever_it_is() -> None:
    spec = JobSpec.model_validate({"model": "mdl_1", "steps": [{"kind": "finetune", **TRAINED}]})
    whole = spec.model_dump(mode="json")  # with what is newer, too
    assert "spec.steps.0.training.epoch_share" in _unknown(spec, whole)
    types = {name: [field for field in fields if field != "cutout"] for name, fields in KNOWN["types"].items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KNOWN, "types", types)
        assert _unknown(spec, stored(spec)) == ["spec.steps.0.training.augmentation.cutout"]


def test_the_newest_migration_is_the_one_that_these_fields_are_since() -> None:
    assert KNOWN["revision"] == migrate.head(), "record the fields anew, and begin anew with NEWER_THAN_SERVED"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["kind"])
def test_a_job_that_asks_for_nothing_new_has_no_new_field(step: dict[str, object]) -> None:
    spec = JobSpec.model_validate({"model": "mdl_1", "dataset": "dts_1", "steps": [step]})
    document = stored(spec)
    assert _unknown(spec, document) == []
    (asked,) = document["steps"]  # type: ignore[misc]
    # What is left out is what it is by default, and what is a user's own stays.
    assert TypeAdapter(JobSpec).validate_python(document) == spec
    if "architecture" in asked.get("student", {}):
        assert asked["student"]["arguments"] == {"rate": 0.0}


def test_what_is_asked_for_is_kept() -> None:
    training = {"epochs": 1, "epoch_share": 0.5, "progressive_resizing": {}}
    steps = [{"kind": "quantize", "bits": 4, "rate": 0.2, "training": training}]
    document = stored(JobSpec.model_validate({"model": "mdl_1", "dataset": "dts_1", "steps": steps, "reuse": False}))
    (asked,) = document["steps"]  # type: ignore[misc]
    assert (document["reuse"], asked["rate"], asked["training"]["epoch_share"]) == (False, 0.2, 0.5)
    assert len({path for path, _ in NEWER_THAN_SERVED}) == len(NEWER_THAN_SERVED)
