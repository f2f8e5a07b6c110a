"""How a network is trained: the recovery of any step, and the training of a student."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelpress.spec.config import Config


class Augmentation(Config):
    """Random changes to each training image, drawn anew every epoch, in batches on the device."""

    horizontal_flip: bool = Field(
        default=False, description="Mirror half of the images. Right for photographs, wrong for digits and letters."
    )
    crop_padding: int = Field(
        default=0,
        ge=0,
        le=32,
        description="Pad by this many pixels of zeros, then crop back at random. CIFAR's usual: 4.",
    )
    cutout: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Side of a square, pixels, that is set to the mean at a random place of each image (DeVries and "
        "Taylor 2017); 0 for none.",
    )
    random_erasing: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability that a rectangle of an image, 2% to 40% of its area and at most 3.3 times as long as "
        "wide, is set to the mean (Zhong et al. 2020, who use 0.5).",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Alpha of the Beta distribution of the shares in which each image, with its label, is mixed with "
        "another one (Zhang et al. 2018: 1 for CIFAR, 0.2 for ImageNet); 0 for none.",
    )

    @property
    def plain_views(self) -> int:
        """As how many images one image appears but for all other changes: 1, or 2 where it may be mirrored."""
        return 2 if self.horizontal_flip else 1

    @property
    def views(self) -> int | None:
        """As how many different images one image appears; None for no end of them."""
        if self.crop_padding or self.cutout or self.random_erasing or self.mixup:
            return None
        return self.plain_views


class ProgressiveResizing(Config):
    """Smaller images for the first part of a training, which then goes faster (Howard 2018; Tan and Le 2021)."""

    scale: float = Field(
        default=0.75,
        ge=0.25,
        lt=1,
        description="Height and width of the smaller images over the full ones; the network must be able to take them.",
    )
    until: float = Field(
        default=0.5, gt=0, le=0.9, description="Share of the training after which images have their full size."
    )


class Training(Config):
    """One training: how long, with which optimiser, at which rate."""

    epochs: int = Field(
        default=5, ge=1, le=10_000, description="Passes over the training images, or over `epoch_share` of them."
    )
    epoch_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the training images that an epoch has, drawn anew for each: for a training of less than "
        "one pass, or to take the validation accuracy more often than once a pass.",
    )
    batch_size: int = Field(default=128, ge=1, le=65_536, description="Images per step.")
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="Stochastic gradient descent with Nesterov momentum, or AdamW."
    )
    learning_rate: float = Field(default=0.01, gt=0, le=10, description="Highest learning rate of the schedule.")
    schedule: Literal["one_cycle", "cosine", "step", "constant"] = Field(
        default="cosine",
        description="Learning rate over the steps: up over the first tenth and down to zero (`one_cycle`, linear), "
        "half a cosine down to zero (`cosine`), multiplied by `step_factor` at each of `milestones` (`step`), or "
        "`constant`.",
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75),
        min_length=1,
        max_length=100,
        description="Shares of the training, rising, at which `step` lowers the rate; ignored by other schedules.",
    )
    step_factor: float = Field(
        default=0.1, gt=0, lt=1, description="What `step` multiplies the rate by; ignored by other schedules."
    )
    warm_up: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training over which the rate first rises from near zero to what the schedule says "
        "(linear, Goyal et al. 2017); not with `one_cycle`, which has its own.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of `sgd`; ignored by `adamw`.")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="Decay of weights (not of biases and norms).")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of the label spread over all classes.")
    gradient_clip: float | None = Field(
        default=None, gt=0, description="Largest norm of the whole gradient; null for none."
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, 0.999 say, which the training "
        "leaves in their place; null for the last weights themselves.",
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the labelled training images of each class that is kept apart, the same "
        "ones in every training, to take the accuracy on after each epoch; the held-out images stay unseen.",
    )
    keep_best: bool = Field(
        default=False,
        description="Leave the weights of the epoch with the highest validation accuracy in place of the last ones; "
        "epochs before the full sparsity is reached, or while grids still move, do not count.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Stop after this many epochs, of those that count, without a higher validation accuracy; null to "
        "train for all `epochs`.",
    )
    augmentation: Augmentation = Field(default_factory=Augmentation, description="Random changes to the images.")
    progressive_resizing: ProgressiveResizing | None = Field(
        default=None,
        description="Begin with smaller images, `{}` for three quarters of the side in the first half; null for none. "
        "With a teacher only by `teacher_view: plain`, which shows it images of full size.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Arithmetic of the forward and backward pass; `auto` takes bf16 where a trial is faster.",
    )

    def images_of_epoch(self, images: int) -> int:
        """How many of so many training images an epoch has."""
        return max(1, round(images * self.epoch_share))

    def largest_batch(self, images: int) -> int:
        """How many images a batch has at most, of so many training images."""
        return min(self.batch_size, self.images_of_epoch(images))

    def images_seen(self, images: int) -> int:
        """How many are trained on in all epochs, each as often as it is, of a data set that has so many."""
        return self.epochs * self.images_of_epoch(images)

    def images_of_work(self, images: int) -> float:
        """The same as images of full size in which a network computes as much, that is has as many pixels."""
        resizing = self.progressive_resizing
        return self.images_seen(images) * (1.0 if resizing is None else 1 - resizing.until * (1 - resizing.scale**2))

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError("`milestones` must rise from one to the next")
        if self.schedule == "one_cycle" and self.warm_up > 0:
            raise ValueError(
                "`one_cycle` rises over its first tenth by itself; drop `warm_up` or take another schedule"
            )
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> Self:
        if self.validation == 0 and (self.keep_best or self.patience is not None):
            asked = "keep_best" if self.keep_best else "patience"
            raise ValueError(f"`{asked}` goes by the validation accuracy: give `validation` (0.1, say)")
        return self


TeacherView = Literal["augmented", "plain"]
TEACHER_VIEW = (
    "What the teacher is asked about: each image as the student sees it (`augmented`), or as the data set has it, "
    "mirrored where the student's is (`plain`): then its answers are computed once and kept, and the training costs "
    "little more than one without a teacher. Not with `mixup`"
)


def check_teacher_view(view: TeacherView, training: Training) -> None:
    """Raises ValueError where images have no plain form, or only the plain form is fit for a teacher."""
    if view == "augmented" and training.progressive_resizing is not None:
        raise ValueError(
            "`progressive_resizing` makes images of a size that the teacher may not take: let it answer for those of "
            "full size, by `teacher_view: plain`"
        )
    if view == "plain" and training.augmentation.mixup > 0:
        raise ValueError(
            "`teacher_view: plain` asks the teacher about single images, and `mixup` makes one of two: drop one of them"
        )


class Recovery(Training):
    """The training after or during a compression step, with or without a teacher."""

    teacher: Literal["original"] | None = Field(
        default=None, description="`original`: learn from the uploaded model's outputs too (Hinton et al. 2015)."
    )
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening of both outputs; only with a teacher.")
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels; only with a teacher."
    )
    teacher_view: TeacherView = Field(default="augmented", description=f"{TEACHER_VIEW}; only with a teacher.")

    @model_validator(mode="after")
    def _check_teacher_view(self) -> Self:
        if self.teacher is not None:
            check_teacher_view(self.teacher_view, self)
        return self
