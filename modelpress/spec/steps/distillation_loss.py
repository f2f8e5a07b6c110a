"""What a student makes small: how it is held to its teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelpress.spec.config import Config


class Hinton(Config):
    """alpha T^2 KL(teacher || student), both softened by T, plus (1 - alpha) cross-entropy (Hinton et al. 2015)."""

    kind: Literal["hinton"] = "hinton"
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")


class Decoupled(Config):
    """T^2 (alpha TCKD + beta NCKD) + label_weight cross-entropy (Zhao et al. 2022, arXiv 2203.08679, equation 7).

    TCKD compares how likely the label's class is, NCKD how the other classes share what is left.
    """

    kind: Literal["dkd"] = "dkd"
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=1.0, ge=0, le=1000, description="Weight of the label's class (TCKD).")
    beta: float = Field(default=8.0, ge=0, le=1000, description="Weight of the other classes (NCKD).")
    label_weight: float = Field(default=1.0, ge=0, le=1000, description="Weight of the cross-entropy with the labels.")


class LogitRegression(Config):
    """Mean squared difference of the logits, over images and classes (Ba and Caruana 2014, arXiv 1312.6184)."""

    kind: Literal["logits"] = "logits"
    label_weight: float = Field(
        default=0.0, ge=0, le=1000, description="Weight of the cross-entropy with the labels; the paper takes none."
    )


class Relational(Config):
    """Hinton's loss, plus how the images of a batch lie to each other (Park et al. 2019, arXiv 1904.05068).

    Compared are the inputs of the last layer with weights, averaged over pixels where they are maps, of the first 128
    images of each batch.
    """

    kind: Literal["relational"] = "relational"
    distance: float = Field(default=25.0, ge=0, le=10_000, description="Weight of the distances between two images.")
    angle: float = Field(default=50.0, ge=0, le=10_000, description="Weight of the angles between three images.")
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")


class LayerPair(Config):
    """A convolution of the original, and the student's that learns from it."""

    teacher: str = Field(min_length=1, max_length=256, description="Name of a convolution of the original.")
    student: str = Field(min_length=1, max_length=256, description="Name of a convolution of the student.")


class Attention(Config):
    """Hinton's loss, plus where in the image layers are active (Zagoruyko and Komodakis 2017, arXiv 1612.03928)."""

    kind: Literal["attention"] = "attention"
    layers: tuple[LayerPair, ...] = Field(
        min_length=1,
        max_length=64,
        description="Pairs of convolutions with maps of the same height and width, `{teacher: ..., student: ...}`.",
    )
    weight: float = Field(default=1000.0, gt=0, le=1_000_000, description="Weight of the attention maps.")
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")


class Hints(Config):
    """Hinton's loss, plus the difference of feature maps (FitNets, Romero et al. 2015, arXiv 1412.6550).

    Where the channels differ a 1x1 convolution is learned along, where the sizes do the larger map is averaged down.
    """

    kind: Literal["hints"] = "hints"
    layers: tuple[LayerPair, ...] = Field(
        min_length=1, max_length=64, description="Pairs of convolutions, `{teacher: ..., student: ...}`."
    )
    weight: float = Field(default=1.0, gt=0, le=1_000_000, description="Weight of the feature maps.")
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")


DistillationLoss = Annotated[
    Hinton | Decoupled | LogitRegression | Relational | Attention | Hints, Field(discriminator="kind")
]
