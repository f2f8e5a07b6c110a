"""Does a step `distill` fit a model?"""

from __future__ import annotations

from modelpress.spec.architecture import ARCHITECTURES
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.steps import Distill


def distill_misfits(step: Distill, model: ModelInspection, where: str) -> list[Misfit]:
    """What keeps the student from the model's place."""
    name, arguments = step.student.architecture, step.student.arguments
    if name not in ARCHITECTURES:
        return [
            Misfit(
                where=f"{where}.student.architecture",
                message=f"there is no architecture {name!r}; `GET /v1/architectures` lists them",
            )
        ]
    misfits = []
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
