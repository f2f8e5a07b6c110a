"""The loss that a step `distill` asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from modelpress.engine.distill.attention import AttentionLoss, require_convolutions
from modelpress.engine.distill.cache import Asking
from modelpress.engine.distill.decoupled import DecoupledLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.distill.hints import HintLoss
from modelpress.engine.distill.logits import LogitLoss
from modelpress.engine.distill.relational import RelationalLoss
from modelpress.engine.distill.watch import watch_inputs, watch_outputs
from modelpress.engine.loss import Loss
from modelpress.engine.network import weighted_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps.distillation_loss import Decoupled, DistillationLoss, Hints, LogitRegression, Relational


@contextmanager
def distillation_loss(
    wanted: DistillationLoss,
    teacher: nn.Module,
    student: nn.Module,
    *,
    label_smoothing: float,
    asking: Asking | None = None,
) -> Iterator[Loss]:
    """The loss as the training loop calls it; `teacher` is frozen and on the training's device.

    Both networks are watched where the loss looks inside them, and are as they were afterwards. Raises
    IncompatibleSpec when a layer that it names is missing.
    """
    if isinstance(wanted, Decoupled):
        yield DecoupledLoss(
            teacher,
            temperature=wanted.temperature,
            alpha=wanted.alpha,
            beta=wanted.beta,
            label_weight=wanted.label_weight,
            label_smoothing=label_smoothing,
            asking=asking,
        )
        return
    if isinstance(wanted, LogitRegression):
        yield LogitLoss(teacher, label_weight=wanted.label_weight, label_smoothing=label_smoothing, asking=asking)
        return
    hinton = HintonLoss(
        teacher,
        temperature=wanted.temperature,
        alpha=wanted.alpha,
        label_smoothing=label_smoothing,
        asking=asking,
        is_watched=wanted.kind != "hinton",
    )
    if wanted.kind == "hinton":
        yield hinton
    elif isinstance(wanted, Relational):
        with (
            watch_inputs(teacher, [_last(teacher, "the original")]) as taught,
            watch_inputs(student, [_last(student, "the student")]) as learnt,
        ):
            yield RelationalLoss(hinton, taught, learnt, distance=wanted.distance, angle=wanted.angle)
    else:
        of_teacher = [pair.teacher for pair in wanted.layers]
        of_student = [pair.student for pair in wanted.layers]
        require_convolutions(teacher, of_teacher, "the original")
        require_convolutions(student, of_student, "the student")
        with watch_outputs(teacher, of_teacher) as taught, watch_outputs(student, of_student) as learnt:
            if isinstance(wanted, Hints):
                yield HintLoss(
                    hinton,
                    taught,
                    learnt,
                    layers=wanted.layers,
                    channels=[
                        (_channels(student, pair.student), _channels(teacher, pair.teacher)) for pair in wanted.layers
                    ],
                    weight=wanted.weight,
                    device=next(teacher.parameters()).device,
                )
                return
            yield AttentionLoss(hinton, taught, learnt, layers=wanted.layers, weight=wanted.weight)


def _channels(module: nn.Module, name: str) -> int:
    return len(module.get_submodule(name).get_parameter("weight"))


def _last(module: nn.Module, whose: str) -> str:
    names = list(weighted_layers(module))
    if not names:
        raise IncompatibleSpec(f"`loss`: {whose} has no layer with weights, whose input could be compared")
    return names[-1]
