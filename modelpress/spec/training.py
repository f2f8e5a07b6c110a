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


class Training(Config):
    """One training: how long, with which optimiser, at which rate."""

    epochs: int = Field(default=5, ge=1, le=10_000, description="Passes over the training images.")
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
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Arithmetic of the forward and backward pass; `auto` takes bf16 where a trial is faster.",
    )

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


class Recovery(Training):
    """The training after or during a compression step, with or without a teacher."""

    teacher: Literal["original"] | None = Field(
        default=None, description="`original`: learn from the uploaded model's outputs too (Hinton et al. 2015)."
    )
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening of both outputs; only with a teacher.")
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels; only with a teacher."
    )
