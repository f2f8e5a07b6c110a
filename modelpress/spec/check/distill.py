"""Does a step `distill` fit a model?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelpress.spec.architecture import ARCHITECTURES, unknown_arguments
from modelpress.spec.check.misfit import Misfit, listed, shape_of
from modelpress.spec.inspection import LayerInspection, ModelInspection
from modelpress.spec.steps import Distill
from modelpress.spec.steps.distillation_loss import Attention, Decoupled, Hints
from modelpress.spec.student import Current, Shallower, Thinner, Uploaded, derived


def distill_misfits(
    step: Distill, model: ModelInspection, students: Mapping[str, ModelInspection], where: str
) -> list[Misfit]:
    """What keeps the student from the model's place; `students` are the uploaded ones by id."""
    misfits = _loss_misfits(step, model, where)
    if isinstance(step.student, Current):
        return misfits
    if isinstance(step.student, Uploaded):
        return misfits + _uploaded_misfits(step, step.student, model, students, where)
    if isinstance(step.student, Thinner | Shallower):
        try:
            derived(model.network.architecture, step.student)
        except ValueError as error:
            misfits.append(Misfit(where=f"{where}.student", message=str(error)))
        return misfits
    name, arguments = step.student.architecture, step.student.arguments
    if name not in ARCHITECTURES:
        return [
            Misfit(
                where=f"{where}.student.architecture",
                message=f"there is no architecture {name!r}; `GET /v1/architectures` lists them",
            )
        ]
    entry = ARCHITECTURES[name]
    unknown, known = unknown_arguments(entry, arguments)
    if unknown:
        misfits.append(
            Misfit(
                where=f"{where}.student.arguments",
                message=f"{name} takes no argument {listed(unknown)}; it takes {listed(list(known))}",
            )
        )
    for argument, needed, of in (
        ("num_classes", model.num_classes, "outputs"),
        ("in_channels", model.network.input_shape[0], "input channels"),
        ("in_chans", model.network.input_shape[0], "input channels"),
    ):
        if arguments.get(argument, needed) != needed:
            misfits.append(
                Misfit(
                    where=f"{where}.student.arguments.{argument}",
                    message=f"the student has to have the model's {needed} {of}; leave `{argument}` out",
                )
            )
    return misfits


def _loss_misfits(step: Distill, model: ModelInspection, where: str) -> list[Misfit]:
    if isinstance(step.loss, Decoupled) and model.num_classes < 2:
        return [
            Misfit(where=f"{where}.loss", message="`dkd` compares classes, and the model has one output; take `logits`")
        ]
    if isinstance(step.loss, Attention | Hints):
        # The student's are known once it is built, or from its upload.
        return _unknown_convolutions(
            [pair.teacher for pair in step.loss.layers], model.layers, "the model", f"{where}.loss.layers"
        )
    return []


def _uploaded_misfits(
    step: Distill, student: Uploaded, model: ModelInspection, students: Mapping[str, ModelInspection], where: str
) -> list[Misfit]:
    place = f"{where}.student.model"
    found = students.get(student.model)
    if found is None:
        return [Misfit(where=place, message=f"there is no model {student.model!r} for a student; upload one")]
    misfits = []
    if found.num_classes != model.num_classes:
        misfits.append(
            Misfit(
                where=place,
                message=f"the student has {found.num_classes} outputs, the model {model.num_classes}; upload one that "
                "tells the same classes apart, in the same order",
            )
        )
    if found.network.input_shape != model.network.input_shape:
        misfits.append(
            Misfit(
                where=place,
                message=f"the student takes images of {shape_of(found.network.input_shape)}, the model of "
                f"{shape_of(model.network.input_shape)} (channels x height x width); upload one for the same images, "
                "with the same `image_size`",
            )
        )
    if isinstance(step.loss, Attention | Hints):
        misfits += _unknown_convolutions(
            [pair.student for pair in step.loss.layers], found.layers, "the student", f"{where}.loss.layers"
        )
    return misfits


def _unknown_convolutions(
    names: Sequence[str], layers: Sequence[LayerInspection], whose: str, where: str
) -> list[Misfit]:
    # Convolutions have kernels of four dimensions.
    known = [layer.name for layer in layers if len(layer.weight_shape) == 4]
    unknown = [name for name in names if name not in known]
    if not unknown:
        return []
    message = f"{whose} has no convolution {listed(unknown)}; its convolutions are {listed(known)}"
    return [Misfit(where=where, message=message)]
