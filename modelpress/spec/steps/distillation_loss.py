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


DistillationLoss = Annotated[Hinton | Decoupled | LogitRegression, Field(discriminator="kind")]
