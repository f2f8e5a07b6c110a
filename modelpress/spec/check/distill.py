"""Does a step `distill` fit a model?"""

from __future__ import annotations

from modelpress.spec.architecture import ARCHITECTURES
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.steps import Distill
from modelpress.spec.steps.distillation_loss import Attention, Decoupled, Hints
from modelpress.spec.student import Current, Shallower, Thinner, derived


def distill_misfits(step: Distill, model: ModelInspection, where: str) -> list[Misfit]:
    """What keeps the student from the model's place."""
    misfits = _loss_misfits(step, model, where)
    if isinstance(step.student, Current):
        return misfits
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
    unknown = [argument for argument in arguments if argument not in entry.arguments]
    if entry.family == "modelpress" and unknown:
        misfits.append(
            Misfit(
                where=f"{where}.student.arguments",
                message=f"{name} takes no argument {listed(unknown)}; it takes {listed(list(entry.arguments))}",
            )
        )
    for argument, needed, of in (
        ("num_classes", model.num_classes, "outputs"),
        ("in_channels", model.network.input_shape[0], "input channels"),
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
        # Convolutions have kernels of four dimensions; the student's are known once it is built.
        known = [layer.name for layer in model.layers if len(layer.weight_shape) == 4]
        unknown = [pair.teacher for pair in step.loss.layers if pair.teacher not in known]
        if unknown:
            return [
                Misfit(
                    where=f"{where}.loss.layers",
                    message=f"the model has no convolution {listed(unknown)}; its convolutions are {listed(known)}",
                )
            ]
    return []
