"""The steps of a recipe: what each method can be asked for.

The JSON Schema of these classes is the one source for validation, for `GET /v1/methods` and for the documentation.
How a step is carried out is in `modelpress.engine`, one file per method.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.training import Recovery, Training


class LayerSelection(Config):
    """Which layers a step treats, by glob patterns on their names (`features.*`)."""

    include: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns; each must match some layer.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns that win over `include`; each must match.")


class OneShot(Config):
    """All weights go at once, before the training."""

    kind: Literal["one_shot"] = "one_shot"


class Cubic(Config):
    """The sparsity grows during the training as s_t = s_f + (s_i - s_f) (1 - t)^3 (Zhu and Gupta 2017, equation 1)."""

    kind: Literal["cubic"] = "cubic"
    begin: float = Field(
        default=0.0, ge=0, lt=1, description="Where pruning begins, as a share of the training's steps."
    )
    end: float = Field(default=0.75, gt=0, le=1, description="Where the full sparsity is reached, as such a share.")
    frequency: int = Field(default=20, ge=1, le=100_000, description="Training steps between two updates of the masks.")

    @model_validator(mode="after")
    def _ordered(self) -> Cubic:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must lie before end ({self.end})")
        return self


class Prune(Config):
    """Set the least important weights to zero and keep them there (gradual magnitude pruning, Zhu and Gupta 2017)."""

    kind: Literal["prune"] = "prune"
    granularity: Literal["weight"] = Field(default="weight", description="What is removed: single weights.")
    criterion: Literal["magnitude"] = Field(default="magnitude", description="Importance of a weight: its magnitude.")
    sparsity: float = Field(
        gt=0, lt=1, description="Share of the chosen layers' weights that are zero at the end.", examples=[0.75]
    )
    scope: Literal["global", "layer"] = Field(
        default="global", description="Compare weights over all chosen layers together, or within each layer."
    )
    schedule: Annotated[OneShot | Cubic, Field(discriminator="kind")] = Field(
        default_factory=OneShot, description="All at once, or growing during the training."
    )
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers to prune.")
    training: Recovery | None = Field(default=None, description="Training under the masks; null for none.")

    @model_validator(mode="after")
    def _gradual_needs_training(self) -> Prune:
        if isinstance(self.schedule, Cubic) and self.training is None:
            raise ValueError("a cubic schedule acts during training: give `training`, or use the schedule one_shot")
        return self


class RankNumber(Config):
    """The same rank for every chosen layer."""

    kind: Literal["number"] = "number"
    value: int = Field(ge=1, description="Rank. At most each chosen layer's full rank.")


class RankPerLayer(Config):
    """A rank for each layer by its name; layers not named stay as they are."""

    kind: Literal["per_layer"] = "per_layer"
    values: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1, description="Layer name to rank.")


class RankRatio(Config):
    """A share of each layer's full rank, rounded down, at least 1."""

    kind: Literal["ratio"] = "ratio"
    value: float = Field(gt=0, le=1, description="Share of the full rank.")


class RankEnergy(Config):
    """The smallest rank that keeps this share of the squared singular values."""

    kind: Literal["energy"] = "energy"
    value: float = Field(gt=0, le=1, description="Kept share of the sum of squared singular values.")


Rank = Annotated[RankNumber | RankPerLayer | RankRatio | RankEnergy, Field(discriminator="kind")]


class Factorize(Config):
    """Replace layers by pairs of thinner ones, by SVD.

    Linear layers become two (rank columns between); k x k convolutions become a vertical k x 1 and a horizontal
    1 x k one (Tai et al. 2015, equations 2-5 of SlimNets). A layer whose pair would not be smaller stays as it is,
    and the report names it.
    """

    kind: Literal["factorize"] = "factorize"
    rank: Rank = Field(description="How thin the pairs are.", examples=[{"kind": "energy", "value": 0.9}])
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers to factorize.")
    training: Recovery | None = Field(default=None, description="Training of the pairs; null for none.")


class Distill(Config):
    """Train another, smaller network to give the original's outputs (Hinton et al. 2015).

    Loss: alpha T^2 KL(teacher || student), both softened by the temperature T, plus (1 - alpha) cross-entropy.
    """

    kind: Literal["distill"] = "distill"
    student: ArchitectureRef = Field(
        description="The network to train. `num_classes` and `in_channels` are the original's unless given."
    )
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")
    training: Training = Field(description="The student's training.")


class Finetune(Config):
    """Train the network as it is now; weights pruned before stay zero."""

    kind: Literal["finetune"] = "finetune"
    training: Recovery = Field(description="The training.")


Step = Annotated[Prune | Factorize | Distill | Finetune, Field(discriminator="kind")]


def step_training(step: Prune | Factorize | Distill | Finetune) -> Training | None:
    """The training that a step carries, None when it has none (then it needs no data)."""
    return step.training
