"""The step `distill`: what its fields mean together, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.check import check
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.steps import Distill, uploaded_students
from modelpress.spec.steps.distillation_loss import Decoupled, Hinton
from modelpress.spec.student import Shallower, Thinner, derived
from tests.spec.test_check import DATASET, DISTILL, MODEL


def read(**more: Any) -> Distill:
    return Distill.model_validate({**DISTILL, **more})


def test_without_a_loss_the_fields_of_the_step_are_hintons() -> None:
    assert read(temperature=2.0, alpha=0.5).chosen_loss == Hinton(temperature=2.0, alpha=0.5)
    assert read().chosen_loss == Hinton()


def test_a_loss_has_its_own_fields() -> None:
    step = read(loss={"kind": "dkd", "beta": 2.0})
    assert step.chosen_loss == Decoupled(beta=2.0)
    assert Distill.model_validate_json(step.model_dump_json()) == step
    with pytest.raises(ValidationError, match="`temperature` of the step is Hinton's without a `loss`"):
        read(loss={"kind": "dkd"}, temperature=2.0)


@pytest.mark.parametrize(
    "loss", [{"kind": "dkd", "beta": -1}, {"kind": "logits", "temperature": 2}, {"kind": "hinton", "alpha": 1.5}, {}]
)
def test_losses_that_make_no_sense(loss: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(loss=loss)


def test_decoupling_needs_two_classes() -> None:
    recipe = Recipe.model_validate({"steps": [{**DISTILL, "loss": {"kind": "dkd"}}]})
    assert check(recipe, MODEL, DATASET) == []
    one = DATASET.model_copy(update={"classes": ("a",)})
    (misfit,) = check(recipe, MODEL.model_copy(update={"num_classes": 1}), one)
    assert misfit.where == "steps.0.loss"


def test_attention_names_convolutions_of_the_model() -> None:
    def refused(teacher: str) -> list[str]:
        loss = {"kind": "attention", "layers": [{"teacher": teacher, "student": "any"}]}
        recipe = Recipe.model_validate({"steps": [{**DISTILL, "loss": loss}]})
        return [misfit.message for misfit in check(recipe, MODEL, DATASET)]

    assert refused("features.3") == []
    (message,) = refused("features.4")
    assert message.startswith("the model has no convolution features.4; its convolutions are features.0, ")


@pytest.mark.parametrize(
    ("arguments", "place", "message"),
    [
        ({"pretrained": True}, "arguments", "timm/resnet18 takes no argument pretrained; it takes num_classes, "),
        ({"in_chans": 4}, "arguments.in_chans", "the student has to have the model's 3 input channels"),
        ({"num_classes": 3}, "arguments.num_classes", "the student has to have the model's 10 outputs"),
    ],
)
def test_a_student_of_timm_takes_timms_arguments(arguments: dict[str, Any], place: str, message: str) -> None:
    recipe = Recipe.model_validate({"steps": [read(student={"architecture": "timm/resnet18", "arguments": arguments})]})
    (misfit,) = check(recipe, MODEL, DATASET)
    assert misfit.where == f"steps.0.student.{place}"
    assert misfit.message.startswith(message)


@pytest.mark.parametrize(
    ("original", "depth", "shallower"),
    [
        ("vgg19_bn_cifar", 0.9, "vgg16_bn_cifar"),
        ("vgg16", 0.7, "vgg11"),
        ("resnet56_cifar", 0.6, "resnet32_cifar"),
        ("resnet34", 0.99, "resnet18"),
        ("resnet152", 0.5, "resnet50"),
        ("densenet201", 0.8, "densenet121"),
    ],
)
def test_shallower_students(original: str, depth: float, shallower: str) -> None:
    reference = ArchitectureRef(architecture=original, arguments={"num_classes": 7})
    found = derived(reference, Shallower(depth=depth))
    assert found == ArchitectureRef(architecture=shallower, arguments={"num_classes": 7})
    assert shallower in ARCHITECTURES


def test_students_that_the_original_does_not_have() -> None:
    for name, student, message in (
        ("vgg11", Shallower(depth=0.9), "the shallowest of the family of vgg11 has 11 layers"),
        ("alexnet", Shallower(depth=0.9), "alexnet has no shallower form"),
        ("nin_cifar", Thinner(width=0.5), "takes no `width`"),
    ):
        with pytest.raises(ValueError, match=message):
            derived(ArchitectureRef(architecture=name), student)
    recipe = Recipe.model_validate({"steps": [{**DISTILL, "student": {"kind": "shallower", "depth": 0.5}}]})
    ((where, message),) = [(misfit.where, misfit.message) for misfit in check(recipe, MODEL, DATASET)]
    assert where == "steps.0.student"
    assert "raise `depth`" in message


def test_the_layers_of_the_current_network_are_known_to_later_steps() -> None:
    later = {"kind": "prune", "sparsity": 0.5, "layers": {"include": ["nothing"]}}
    for student, misfits in (({"kind": "current"}, 1), ({"kind": "thinner", "width": 0.5}, 0)):
        recipe = Recipe.model_validate({"steps": [{**DISTILL, "student": student}, later]})
        assert len(check(recipe, MODEL, DATASET)) == misfits


UPLOADED = {**DISTILL, "student": {"kind": "uploaded", "model": "mdl_small"}}
SMALL = MODEL.model_copy(update={"layers": MODEL.layers[:2]})  # features.0 and features.3


def misfits_of(*steps: dict[str, Any], student: ModelInspection | None = SMALL) -> list[tuple[str, str]]:
    students = {} if student is None else {"mdl_small": student}
    found = check(Recipe.model_validate({"steps": steps}), MODEL, DATASET, students)
    return [(misfit.where, misfit.message) for misfit in found]


def test_an_uploaded_student_that_fits() -> None:
    assert misfits_of(UPLOADED) == []
    step = Distill.model_validate(UPLOADED)
    assert step.replaces_network
    assert Distill.model_validate_json(step.model_dump_json()) == step


def test_an_uploaded_student_that_is_not_there() -> None:
    ((where, message),) = misfits_of({"kind": "prune", "sparsity": 0.5}, UPLOADED, student=None)
    assert where == "steps.1.student.model"
    assert "there is no model 'mdl_small'" in message


def test_an_uploaded_student_for_other_images_or_classes() -> None:
    ((where, message),) = misfits_of(UPLOADED, student=SMALL.model_copy(update={"num_classes": 7}))
    assert where == "steps.0.student.model"
    assert "the student has 7 outputs, the model 10" in message
    network = SMALL.network.model_copy(update={"input_shape": (3, 64, 64)})
    ((where, message),) = misfits_of(UPLOADED, student=SMALL.model_copy(update={"network": network}))
    assert where == "steps.0.student.model"
    assert "images of 3 x 64 x 64, the model of 3 x 32 x 32" in message


@pytest.mark.parametrize("kind", ["hints", "attention"])
def test_losses_name_layers_of_an_uploaded_student(kind: str) -> None:
    def refused(student: str) -> list[tuple[str, str]]:
        loss = {"kind": kind, "layers": [{"teacher": "features.7", "student": student}]}
        return misfits_of({**UPLOADED, "loss": loss})

    assert refused("features.3") == []
    assert refused("features.7") == [
        (
            "steps.0.loss.layers",
            "the student has no convolution features.7; its convolutions are features.0, features.3",
        )
    ]


def test_the_layers_of_an_uploaded_student_are_known_to_later_steps() -> None:
    def later(layer: str) -> list[tuple[str, str]]:
        return misfits_of(UPLOADED, {"kind": "prune", "sparsity": 0.5, "layers": {"include": [layer]}})

    assert later("features.3") == []
    ((where, _),) = later("features.7")
    assert where == "steps.1.layers"


def test_each_uploaded_student_is_named_once_with_its_first_place() -> None:
    other = {**DISTILL, "student": {"kind": "uploaded", "model": "mdl_other"}}
    recipe = Recipe.model_validate({"steps": [DISTILL, other, UPLOADED, other]})
    assert uploaded_students(recipe.steps) == {
        "mdl_other": "steps.1.student.model",
        "mdl_small": "steps.2.student.model",
    }


@pytest.mark.parametrize(
    "student",
    [{"kind": "fat"}, {"kind": "thinner"}, {"kind": "thinner", "width": 1.0}, {"kind": "uploaded", "model": ""}, {}],
)
def test_students_that_make_no_sense(student: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(student=student)
