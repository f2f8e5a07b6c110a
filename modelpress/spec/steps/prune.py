"""The step `prune`: how much goes, what goes first, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from modelpress.spec.config import Config
from modelpress.spec.steps.selection import LayerSelection, NamePattern
from modelpress.spec.training import Recovery

Sparsity = Annotated[float, Field(gt=0, lt=1)]


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


class Iterative(Config):
    """Rounds of pruning and training in turn, each taking the same number of weights (Han et al. 2015)."""

    kind: Literal["iterative"] = "iterative"
    rounds: int = Field(
        default=4,
        ge=2,
        le=1000,
        description="Rounds; the first comes before the training, with the criterion `movement` behind its first part.",
    )
    end: float = Field(
        default=0.75, gt=0, le=1, description="Where the last round comes, as a share of the training's steps."
    )


class RigL(Config):
    """Sparse from the start; now and then small weights go and others take their places (Evci et al. 2020)."""

    kind: Literal["rigl"] = "rigl"
    frequency: int = Field(
        default=100, ge=1, le=100_000, description="Training steps between two exchanges of weights (the paper's dT)."
    )
    drop: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Share of each layer's remaining weights that an exchange drops (the paper's alpha), as training "
        "begins; it falls to zero at `end` as half a cosine.",
    )
    end: float = Field(default=0.75, gt=0, le=1, description="Where exchanges end, as a share of the training's steps.")

    def updates(self, steps: int) -> range:
        """The steps, from 1, of a training of so many at which weights are exchanged; empty when it is too short."""
        return range(self.frequency, self.last(steps), self.frequency)

    def last(self, steps: int) -> int:
        """The step at which the dropped share reaches zero (the paper's T_end)."""
        return max(1, round(self.end * steps))


class Pattern(Config):
    """N:M sparsity: of every m consecutive weights along a layer's inputs, n are kept."""

    n: int = Field(ge=1, le=63, description="Weights that are kept of each group.", examples=[2])
    m: int = Field(ge=2, le=64, description="Weights in a group; a layer's inputs must be a multiple.", examples=[4])

    @model_validator(mode="after")
    def _keeps_fewer(self) -> Pattern:
        if self.n >= self.m:
            raise ValueError(f"n ({self.n}) must be below m ({self.m}), or nothing is removed")
        return self

    @property
    def sparsity(self) -> float:
        """Share of the weights that it removes."""
        return 1 - self.n / self.m


class Prune(Config):
    """Set the least important weights to zero and keep them there (gradual magnitude pruning, Zhu and Gupta 2017)."""

    kind: Literal["prune"] = "prune"
    granularity: Literal["weight"] = Field(default="weight", description="What is removed: single weights.")
    criterion: Literal["magnitude", "random", "taylor", "movement"] = Field(
        default="magnitude",
        description="Importance of a weight: its magnitude, a number drawn by the seed, its magnitude times the loss's "
        "gradient (which needs data), or how far the training has moved it away from zero.",
    )
    calibration_images: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description="Training images that the gradients of `taylor` are averaged over, at each update of the masks.",
    )
    sparsity: float = Field(
        gt=0,
        lt=1,
        description="Share of the chosen layers' weights that are zero at the end. With a `pattern` it is 1 - n/m and "
        "may be left out.",
        examples=[0.75],
    )
    per_layer: dict[NamePattern, Sparsity] = Field(
        default_factory=dict,
        max_length=1000,
        description="Sparsities of layers, by patterns of their names: each is pruned to it by itself, the others by "
        "`sparsity` and `scope`.",
        examples=[{"features.0": 0.3}],
    )
    pattern: Pattern | None = Field(
        default=None, description="Keep n of every m weights, such as `{n: 2, m: 4}`; null for single weights anywhere."
    )
    scope: Literal["global", "layer", "lamp", "erk"] = Field(
        default="global",
        description="Compare weights over all chosen layers together, or within each layer; `lamp` compares all by "
        "scores that are relative to each layer, `erk` gives small layers more density.",
    )
    schedule: Annotated[OneShot | Cubic | Iterative | RigL, Field(discriminator="kind")] = Field(
        default_factory=OneShot,
        description="All at once, growing during the training, or all at once with weights exchanged during it.",
    )
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers to prune.")
    training: Recovery | None = Field(default=None, description="Training under the masks; null for none.")

    @model_validator(mode="before")
    @classmethod
    def _sparsity_of_the_pattern(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("pattern") is None or "sparsity" in given:
            return given
        try:
            sparsity = Pattern.model_validate(given["pattern"]).sparsity
        except ValidationError:
            sparsity = 0.5  # of no effect: what is wrong with the pattern is told at its own place, and alone
        return {**given, "sparsity": sparsity}

    @model_validator(mode="after")
    def _movement_comes_with_training(self) -> Prune:
        if self.criterion != "movement":
            return self
        if self.pattern is not None:
            raise ValueError("a pattern acts before the training, when no weight has moved: use another criterion")
        if not isinstance(self.schedule, Cubic | Iterative):
            raise ValueError(
                f"before a training, when {self.schedule.kind} prunes, no weight has moved: with the criterion "
                "movement use the schedule cubic or iterative, and give `training`"
            )
        return self

    @model_validator(mode="after")
    def _pattern_agrees(self) -> Prune:
        if self.pattern is None:
            return self
        n, m = self.pattern.n, self.pattern.m
        if abs(self.sparsity - self.pattern.sparsity) > 1e-6:
            raise ValueError(
                f"the pattern {n}:{m} removes {self.pattern.sparsity:.6g} of the weights, not {self.sparsity:g}: leave "
                "`sparsity` out, or choose another pattern"
            )
        if self.scope in ("lamp", "erk"):
            raise ValueError(
                f"a pattern compares the {m} weights of a group with one another, so the scope {self.scope} has no "
                "say: leave `scope` out"
            )
        if self.per_layer:
            raise ValueError("a pattern says the sparsity of every layer: leave `per_layer` out")
        if not isinstance(self.schedule, OneShot):
            raise ValueError("a pattern acts at once: use the schedule one_shot; `training` then follows it")
        return self

    @property
    def takes_gradients(self) -> bool:
        """True when it cannot be done without data, even without a training."""
        return self.criterion == "taylor"

    @model_validator(mode="after")
    def _lamp_scores_magnitudes(self) -> Prune:
        if self.scope == "lamp" and self.criterion != "magnitude":
            raise ValueError(
                f"the scope lamp is defined for magnitudes: use it with the criterion magnitude, not {self.criterion}, "
                "or choose another scope"
            )
        return self

    @model_validator(mode="after")
    def _gradual_needs_training(self) -> Prune:
        if isinstance(self.schedule, Cubic) and self.training is None:
            raise ValueError("a cubic schedule acts during training: give `training`, or use the schedule one_shot")
        if isinstance(self.schedule, Iterative) and self.training is None:
            raise ValueError("an iterative schedule trains between rounds: give `training`, or use one_shot")
        if isinstance(self.schedule, RigL) and self.training is None:
            raise ValueError("the schedule rigl exchanges weights during training: give `training`, or use one_shot")
        return self
