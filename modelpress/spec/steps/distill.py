"""The step `distill`: which student, and what it learns from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from modelpress.spec.config import Config
from modelpress.spec.steps.distillation_loss import Attention, DistillationLoss, Hinton, Hints, Relational
from modelpress.spec.student import Current, Student
from modelpress.spec.training import TEACHER_VIEW, TeacherView, Training, check_teacher_view


class Distill(Config):
    """Train another, smaller network to give the original's outputs (Hinton et al. 2015), or by another `loss`.

    Loss unless given: alpha T^2 KL(teacher || student), both softened by the temperature T, plus (1 - alpha)
    cross-entropy.
    """

    kind: Literal["distill"] = "distill"
    student: Student = Field(
        description="The network to train: an architecture (`num_classes` and `in_channels` are the original's unless "
        "given), an `uploaded` model, the original made `thinner` or `shallower`, or the `current` network."
    )
    loss: DistillationLoss | None = Field(
        default=None,
        description="How the student is held to the original; null for `hinton` with `temperature` and `alpha` below.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Softening T of both outputs; a `loss` has its own."
    )
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels; a `loss` has its own."
    )
    teacher_view: TeacherView = Field(
        default="augmented",
        description=f"{TEACHER_VIEW}, and not with a `loss` that compares layers of both networks.",
    )
    training: Training = Field(description="The student's training.")

    @property
    def chosen_loss(self) -> DistillationLoss:
        """The loss, with the step's own fields where none is given."""
        return Hinton(temperature=self.temperature, alpha=self.alpha) if self.loss is None else self.loss

    @property
    def asks_teacher(self) -> bool:
        """False when the student learns by the labels alone, and the original has no say."""
        return not isinstance(self.chosen_loss, Hinton) or self.chosen_loss.alpha > 0

    @property
    def compares_layers(self) -> bool:
        """True where the loss looks inside both networks, which then need the same images."""
        return isinstance(self.loss, Relational | Attention | Hints)

    @property
    def replaces_network(self) -> bool:
        """True when the student is another network than the one that the steps before have made."""
        return not isinstance(self.student, Current)

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        # Compared by value: a recipe that was written out with its defaults is read again.
        fields = type(self).model_fields
        stray = [name for name in ("temperature", "alpha") if getattr(self, name) != fields[name].default]
        if self.loss is not None and stray:
            raise ValueError(
                f"`{stray[0]}` of the step is Hinton's without a `loss`; write it inside `loss`, or drop it"
            )
        return self

    @model_validator(mode="after")
    def _check_teacher_view(self) -> Self:
        if self.asks_teacher:
            check_teacher_view(self.teacher_view, self.training)
        if self.teacher_view == "plain" and self.compares_layers:
            raise ValueError(
                "`teacher_view: plain` keeps the teacher's answers alone, and the loss "
                f"`{self.chosen_loss.kind}` compares layers of both networks on the same images: drop one of them"
            )
        return self
