"""The step `factorize`: which layers become thinner ones in a row, and how thin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelpress.spec.config import Config
from modelpress.spec.steps.selection import LayerSelection
from modelpress.spec.training import Recovery

Currency = Literal["parameters", "macs", "bytes"]


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


class RankEvbmf(Config):
    """The number of singular values above the noise that is in the weights (Nakajima et al. 2013).

    The noise's variance is estimated from the weights of each layer. A layer with nothing above it stays as it is.
    """

    kind: Literal["evbmf"] = "evbmf"


class RankBudget(Config):
    """Ranks that together keep a share of what the layers cost, and of the singular values as much as that allows.

    Shared over the layers so that the sum of the discarded squared singular values, each layer's relative to its own
    total, is small; layers may stay whole. Exactly one of the shares is given.
    """

    kind: Literal["budget"] = "budget"
    parameters: float | None = Field(
        default=None, gt=0, lt=1, description="Most that is kept of the chosen layers' weights, a share."
    )
    macs: float | None = Field(
        default=None, gt=0, lt=1, description="Most that is kept of their multiply-accumulates for one image, a share."
    )
    bytes: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Most that is kept of what their tensors take in the compact file, a share.",
    )

    @model_validator(mode="after")
    def _one_share(self) -> RankBudget:
        if sum(share is not None for share in (self.parameters, self.macs, self.bytes)) != 1:
            raise ValueError("a budget is a share of one thing: give exactly one of parameters, macs and bytes")
        return self

    @property
    def currency(self) -> Currency:
        """What is shared."""
        return "parameters" if self.parameters is not None else "macs" if self.macs is not None else "bytes"

    @property
    def share(self) -> float:
        """How much of it is kept at most, 0..1."""
        return self.parameters or self.macs or self.bytes or 0.0


AnyRank = RankNumber | RankPerLayer | RankRatio | RankEnergy | RankEvbmf | RankBudget
Rank = Annotated[AnyRank, Field(discriminator="kind")]
ConvolutionScheme = Literal["vertical_horizontal", "channel_svd", "tucker2", "cp"]


class Factorize(Config):
    """Replace layers by thinner ones in a row.

    Linear layers and 1 x 1 convolutions become two (rank columns between). k x k convolutions become, by the scheme,
    `vertical_horizontal`: a vertical k x 1 and a horizontal 1 x k one (Tai et al. 2015, equations 2-5 of SlimNets);
    `channel_svd`: a k x k one to fewer channels and a 1 x 1 one back (Zhang et al. 2016);
    `tucker2`: a 1 x 1, a thinner k x k and a 1 x 1 one (Kim et al. 2016); `cp`: a 1 x 1, a k x 1 and a 1 x k depthwise
    and a 1 x 1 one (Lebedev et al. 2015).
    Convolutions in groups, depthwise ones too, become pairs in as many groups, each group of the same rank; Conv1d
    layers a k and a 1 wide one, by either scheme of pairs.
    A layer whose thinner layers would not be smaller stays as it is, and the report names it.
    """

    kind: Literal["factorize"] = "factorize"
    rank: Rank = Field(description="How thin the pairs are.", examples=[{"kind": "energy", "value": 0.9}])
    scheme: ConvolutionScheme = Field(default="vertical_horizontal", description="How k x k convolutions are split.")
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers to factorize.")
    whiten: bool = Field(
        default=False,
        description="Lose as little as possible of the layers' outputs on training images, not of their weights. "
        "Needs data, not its labels; k x k convolutions need the scheme `channel_svd`.",
    )
    batch_norm: bool = Field(
        default=False,
        description="Put batch norms between the convolutions that take a convolution's place, for the training that "
        "follows; until then they change nothing. Linear layers have none.",
    )
    calibration_images: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Training images that `whiten` and `batch_norm` look at, drawn by the job's seed.",
    )
    fold_batch_norm: bool = Field(
        default=False,
        description="Fold each batch norm into the convolution that it follows first: the same function, faster. "
        "Trainings that follow have no norm there.",
    )
    training: Recovery | None = Field(default=None, description="Training of the pairs; null for none.")

    @model_validator(mode="after")
    def _whitened_matrices(self) -> Factorize:
        if self.whiten and self.scheme in ("tucker2", "cp"):
            raise ValueError(f"whiten is defined for matrices: use the scheme channel_svd, not {self.scheme}")
        if self.whiten and isinstance(self.rank, RankEvbmf):
            raise ValueError("evbmf finds the noise in weights: use it without whiten, or another rank")
        return self

    @model_validator(mode="after")
    def _ranks_of_tensors(self) -> Factorize:
        refused = {"tucker2": (RankBudget,), "cp": (RankBudget, RankEnergy, RankEvbmf)}.get(self.scheme, ())
        if isinstance(self.rank, refused):
            raise ValueError(
                f"the scheme {self.scheme} has no singular values that a rank {self.rank.kind} could share: "
                "give a number, per_layer or a ratio, or use another scheme"
            )
        return self
