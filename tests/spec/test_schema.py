"""The JSON Schemas that validation, documentation and forms are made of, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from modelpress.spec.config import Config
from modelpress.spec.job import JobSpec, Recipe
from modelpress.spec.method import METHODS
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.steps import Step
from modelpress.spec.task import TASK
from tests.support.field_table import spec_classes

STEP: TypeAdapter[Any] = TypeAdapter(Step)


@pytest.mark.parametrize("model", spec_classes().values(), ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    # `kind` says which class it is, and is described there.
    bare = [name for name, field in model.model_fields.items() if name != "kind" and not field.description]
    assert bare == []
    assert model.__doc__


def test_all_classes_are_looked_at() -> None:
    names = set(spec_classes())
    assert {
        "Prune",
        "PruneChannels",
        "Factorize",
        "Distill",
        "Finetune",
        "Training",
        "JobSpec",
        "Report",
        "Job",
        "Problem",
    } <= names


@pytest.mark.parametrize(
    "model", [model for model in spec_classes().values() if issubclass(model, Config)], ids=lambda m: m.__name__
)
def test_what_is_asked_for_knows_no_other_fields_and_cannot_change(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"training": {"augmentation": {"mixup": 0.2}}}, "`mixup` makes one of two"),
        ({"loss": {"kind": "relational"}}, "the loss `relational` compares layers"),
        ({"loss": {"kind": "hints", "layers": [{"teacher": "a", "student": "b"}]}}, "the loss `hints` compares layers"),
    ],
)
def test_plain_images_for_a_teacher_are_refused_where_there_are_none(more: dict[str, Any], words: str) -> None:
    step = {"kind": "distill", "student": {"kind": "current"}, "training": {}, **more}
    STEP.validate_python(step)
    with pytest.raises(ValidationError, match=words):
        STEP.validate_python({**step, "teacher_view": "plain"})
    if "loss" not in more:
        taught = {"teacher": "original", "teacher_view": "plain", **more["training"]}
        with pytest.raises(ValidationError, match=words):
            STEP.validate_python({"kind": "finetune", "training": taught})


def test_smaller_images_are_for_a_teacher_of_plain_ones_or_for_none() -> None:
    training = {"progressive_resizing": {}}
    student = {"kind": "distill", "student": {"kind": "current"}, "training": training}
    recovery = {"kind": "finetune", "training": {**training, "teacher": "original"}}
    for step in (student, recovery):
        with pytest.raises(ValidationError, match="let it answer for those of full size"):
            STEP.validate_python(step)
    STEP.validate_python({**student, "teacher_view": "plain"})
    STEP.validate_python({**student, "alpha": 0.0})
    STEP.validate_python({"kind": "finetune", "training": {**training, "teacher": "original", "teacher_view": "plain"}})
    STEP.validate_python({"kind": "finetune", "training": training})


@pytest.mark.parametrize("kind", METHODS)
def test_every_example_is_valid_and_every_kind_has_one(kind: str) -> None:
    method = METHODS[kind]
    assert method.kind == kind
    step = STEP.validate_python(method.example)
    assert step.kind == kind
    assert STEP.validate_json(step.model_dump_json()) == step
    Recipe.model_validate({"steps": [method.example]})


def test_there_is_a_method_for_every_step() -> None:
    kinds = set(STEP.json_schema()["discriminator"]["mapping"])
    assert kinds == set(METHODS)


@pytest.mark.parametrize("kind", METHODS)
def test_whether_data_is_needed_is_what_the_schema_says(kind: str) -> None:
    # A step needs data whatever its fields when its training cannot be left out.
    assert METHODS[kind].needs_data == ("training" in METHODS[kind].parameters.get("required", []))


def test_every_number_of_a_step_is_bounded() -> None:
    schema = JobSpec.model_json_schema()
    numbers = [
        (name, field, options)
        for name, definition in schema["$defs"].items()
        for field, value in definition.get("properties", {}).items()
        for options in value.get("anyOf", [value])
        if options.get("type") in ("number", "integer")
    ]
    assert len(numbers) > 20
    for name, field, options in numbers:
        assert {"minimum", "exclusiveMinimum"} & set(options), f"{name}.{field} has no least value"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "prune", "sparsity": 1.5}, "less than 1"),
    ({"kind": "prune", "sparsity": 0}, "greater than 0"),
    ({"kind": "prune", "sparsity": float("nan")}, "finite number|less than|greater than"),
    ({"kind": "prune"}, "Field required"),
    ({"kind": "prune", "sparsity": 0.5, "sparsty": 1}, "Extra inputs are not permitted"),
    ({"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "cubic"}}, "a cubic schedule acts during training"),
    (
        {"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "cubic", "begin": 0.8, "end": 0.5}, "training": {}},
        "must lie before end",
    ),
    ({"kind": "prune", "sparsity": 0.5, "layers": {"types": ["conv2d"]}}, "Input should be 'Linear', 'Conv1d'"),
    ({"kind": "prune", "sparsity": 0.5, "layers": {"types": []}}, "at least 1 item"),
    ({"kind": "quantize", "bits_per_layer": {"re:(a+)+": 4}}, "what a pattern cannot have, a repeated group"),
    ({"kind": "prune_channels"}, "Field required"),
    ({"kind": "prune_channels", "target": {"kind": "macs", "removed": 1.0}}, "less than 1"),
    (
        {"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}, "round_to": 65},
        "less than or equal to 64",
    ),
    (
        {"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}, "rounds": 2},
        "rounds are removal and training in turn: give `training`",
    ),
    (
        {"kind": "prune_channels", "target": {"kind": "macs", "removed": 0.5}, "rounds": 4, "training": {"epochs": 3}},
        r"`rounds` \(4\) divide the training's epochs, of which there are 3",
    ),
    ({"kind": "prune_channels", "target": {"kind": "watts", "removed": 0.5}}, "'stored_bytes' or 'latency'"),
    ({"kind": "factorize", "rank": {"kind": "number", "value": 0}}, "greater than or equal to 1"),
    ({"kind": "factorize", "rank": {"kind": "energy", "value": 1.01}}, "less than or equal to 1"),
    ({"kind": "factorize", "rank": {"kind": "per_layer", "values": {}}}, "at least 1 item"),
    ({"kind": "factorize", "rank": {"kind": "per_layer", "values": {"a": 0}}}, "greater than or equal to 1"),
    ({"kind": "factorize", "rank": 4}, "valid dictionary|discriminator"),
    ({"kind": "distill", "student": {"architecture": "snn_1k"}}, "Field required"),
    ({"kind": "distill", "student": {"architecture": "snn_1k"}, "training": {"teacher": "original"}}, "Extra inputs"),
    ({"kind": "finetune", "training": {"epochs": 0}}, "greater than or equal to 1"),
    ({"kind": "finetune", "training": {"learning_rate": -0.1}}, "greater than 0"),
    ({"kind": "melt"}, "does not match any of the expected tags"),
]


@pytest.mark.parametrize(("step", "message"), REFUSED)
def test_steps_that_make_no_sense_are_refused(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STEP.validate_python(step)


def test_a_recipe_needs_a_step_and_names_each_artifact_once() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Recipe.model_validate({"steps": []})
    prune = {"kind": "prune", "sparsity": 0.5}
    with pytest.raises(ValidationError, match="each kind of artifact can be asked for once"):
        Recipe.model_validate({"steps": [prune], "artifacts": ["onnx", "onnx"]})
    with pytest.raises(ValidationError, match="compact"):
        Recipe.model_validate({"steps": [prune], "artifacts": ["pickle"]})


def test_defaults_survive_a_round_trip() -> None:
    spec = JobSpec.model_validate({"model": "mdl_1", "steps": [{"kind": "prune", "sparsity": 0.5}]})
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.artifacts is None
    assert [kind.value for kind in spec.wanted_artifacts] == ["compact", "safetensors", "pt2", "onnx", "onnx_int8"]


def test_tasks_are_told_apart_by_their_kind() -> None:
    model = {"path": "inputs/model", "format": "pt", "architecture": {"architecture": "snn_1k"}, "sha256": "00"}
    recipe = {"steps": [{"kind": "prune", "sparsity": 0.5}]}
    assert TASK.validate_python({"kind": "inspect_model", "model": model}).kind == "inspect_model"
    assert TASK.validate_python({"kind": "compress", "model": model, "recipe": recipe}).kind == "compress"
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        TASK.validate_python({"kind": "train", "model": model})


def test_a_description_of_a_network_survives_a_round_trip_and_refuses_more() -> None:
    description = NetworkDescription.model_validate(
        {
            "architecture": {"architecture": "snn_1k", "arguments": {"in_channels": 1}},
            "edits": [{"kind": "factorized_layer", "layer": "features.0", "scheme": "svd", "rank": 3}],
            "input_shape": [1, 32, 32],
            "preprocessing": {"mean": [0.1307], "std": [0.3081]},
        }
    )
    assert NetworkDescription.model_validate_json(description.model_dump_json()) == description
    with pytest.raises(ValidationError, match="Extra inputs"):
        NetworkDescription.model_validate({**description.model_dump(), "code": "import os"})
    with pytest.raises(ValidationError, match="greater than 0"):
        Preprocessing(mean=(0.5,), std=(0.0,))
