"""Which work is the same: by content, by what decides the result, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelpress.spec import identity as module
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.identity import GivenModel, Inputs, job_identity, step_fingerprints
from modelpress.spec.job import JobSpec, Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Finetune
from modelpress.spec.task import Compress, DatasetFile, ModelFile

MODEL = GivenModel(format="safetensors", architecture=ArchitectureRef(architecture="nin_cifar"), sha256="a" * 64)
STUDENT = MODEL.model_copy(update={"sha256": "c" * 64})
INPUTS = Inputs(MODEL, "b" * 64)
DEFAULTS = Path(__file__).parent / "step_defaults.json"
PRUNE = {"kind": "prune", "sparsity": 0.5}
FINETUNE = {"kind": "finetune", "training": {"epochs": 1}}


def recipe(*steps: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.model_validate({"steps": steps or (PRUNE, FINETUNE), **more})


def distilled(model: str) -> dict[str, Any]:
    return {"kind": "distill", "student": {"kind": "uploaded", "model": model}, "training": {"epochs": 1}}


def test_a_recipe_that_begins_alike_has_the_same_first_fingerprints() -> None:
    short, long = step_fingerprints(INPUTS, recipe(PRUNE)), step_fingerprints(INPUTS, recipe(PRUNE, FINETUNE))
    assert (len(short), len(long)) == (2, 3)
    assert long[:2] == short
    assert len(set(long)) == 3
    other = step_fingerprints(INPUTS, recipe(FINETUNE, PRUNE))
    assert set(other) & set(long) == {long[0]}


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(STUDENT, INPUTS.dataset),
        Inputs(MODEL, None),
        Inputs(MODEL.model_copy(update={"image_size": 64}), INPUTS.dataset),
        Inputs(MODEL.model_copy(update={"preprocessing": Preprocessing(mean=(0.5,), std=(1.0,))}), INPUTS.dataset),
    ],
)
def test_other_inputs_are_other_work(inputs: Inputs) -> None:
    assert not set(step_fingerprints(inputs, recipe())) & set(step_fingerprints(INPUTS, recipe()))
    assert job_identity(inputs, recipe()) != job_identity(INPUTS, recipe())


def test_seed_and_version_count_for_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    own = step_fingerprints(INPUTS, recipe())
    assert not set(own) & set(step_fingerprints(INPUTS, recipe(seed=1)))
    monkeypatch.setattr(module, "ENGINE_VERSION", module.ENGINE_VERSION + 1)
    assert not set(own) & set(step_fingerprints(INPUTS, recipe()))


def test_goal_files_and_release_count_for_the_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        recipe(goal={"min_compression_ratio": 2.0}),
        recipe(artifacts=["compact"]),
        recipe(calibration_images=8),
    ]
    assert {step_fingerprints(INPUTS, other) for other in others} == {step_fingerprints(INPUTS, recipe())}
    identities = {job_identity(INPUTS, recipe()), *(job_identity(INPUTS, other) for other in others)}
    monkeypatch.setattr(module, "__version__", "another")
    assert len({*identities, job_identity(INPUTS, recipe())}) == 5


def test_what_is_said_beside_the_recipe_does_not_count() -> None:
    plain = JobSpec(model="mdl_1", dataset="dts_1", steps=recipe().steps)
    said = {"name": "mine", "priority": 3, "needs": {"device": "cpu"}, "reuse": False, "wait_limit_seconds": 5}
    other = JobSpec.model_validate({**plain.model_dump(), **said, "model": "mdl_2"})
    assert job_identity(INPUTS, plain) == job_identity(INPUTS, other) == job_identity(INPUTS, recipe())


def test_a_student_counts_by_its_content() -> None:
    one = step_fingerprints(Inputs(MODEL, None, {"mdl_1": STUDENT}), recipe(PRUNE, distilled("mdl_1")))
    renamed = step_fingerprints(Inputs(MODEL, None, {"mdl_2": STUDENT}), recipe(PRUNE, distilled("mdl_2")))
    other = step_fingerprints(Inputs(MODEL, None, {"mdl_1": MODEL}), recipe(PRUNE, distilled("mdl_1")))
    assert one == renamed
    assert (one[:2], one[2] == other[2]) == (other[:2], False)


def test_a_task_asks_for_the_same_wherever_its_files_lie() -> None:
    file = ModelFile(path="inputs/model", **MODEL.model_dump())
    task = Compress(model=file, dataset=DatasetFile(path="inputs/dataset", sha256="b" * 64), recipe=recipe())
    assert step_fingerprints(task.inputs, task.recipe) == step_fingerprints(INPUTS, recipe())


def test_every_kind_and_every_choice_is_told_apart() -> None:
    ranks = [{"kind": kind, "value": 0.5} for kind in ("ratio", "energy")]
    steps = [
        PRUNE,
        {**PRUNE, "sparsity": 0.6},
        {**PRUNE, "schedule": {"kind": "cubic"}, "training": {"epochs": 1}},
        {**PRUNE, "schedule": {"kind": "one_shot"}, "training": {"epochs": 1}},
        *({"kind": "factorize", "rank": rank} for rank in ranks),
        FINETUNE,
        {"kind": "finetune", "training": {"epochs": 1, "augmentation": {"horizontal_flip": True}}},
        {"kind": "finetune", "training": {"epochs": 1, "progressive_resizing": {}}},
    ]
    assert len({step_fingerprints(INPUTS, recipe(step))[1] for step in steps}) == len(steps)
    # However it was written.
    spelled = {"kind": "finetune", "training": recipe(FINETUNE).steps[0].training.model_dump()}  # type: ignore[union-attr]
    assert step_fingerprints(INPUTS, recipe(spelled)) == step_fingerprints(INPUTS, recipe(FINETUNE))


def test_a_field_that_is_new_changes_nothing_for_who_does_not_ask_for_it() -> None:
    class Later(Finetune):
        new: int = 3

    step = recipe(FINETUNE).steps[0]
    given = {"training": step.training}
    asked = [module._asked_of(each, {}) for each in (step, Later(**given), Later(**given, new=4))]
    assert asked[0] == asked[1]
    assert asked[2] == {**asked[0], "new": 4}


def test_defaults_are_those_of_this_engine_s_number() -> None:
    """`python -m tests.spec.test_identity` records them anew, once ENGINE_VERSION is raised."""
    recorded = json.loads(DEFAULTS.read_text())
    assert recorded["engine_version"] == module.ENGINE_VERSION
    now = _defaults()
    for name, fields in recorded["defaults"].items():
        assert {field: now[name][field] for field in fields} == fields, "a default changed: raise ENGINE_VERSION"


def _defaults() -> dict[str, dict[str, Any]]:
    """Of every field of a step that has one, by type."""
    types = Recipe.model_json_schema()["$defs"]
    return {
        name: {field: said["default"] for field, said in found.get("properties", {}).items() if "default" in said}
        for name, found in types.items()
    }


if __name__ == "__main__":
    told = {"engine_version": module.ENGINE_VERSION, "defaults": _defaults()}
    DEFAULTS.write_text(json.dumps(told, indent=1) + "\n")
