"""The step `quantize`: which few values, and how many bits for each layer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelpress.spec.config import Config
from modelpress.spec.steps.selection import LayerSelection, NamePattern
from modelpress.spec.training import Recovery

Bits = Annotated[int, Field(ge=2, le=8)]


class Quantize(Config):
    """Give the weights of each layer few values, which take few bits in the compact container.

    Uniform: 2^bits - 1 evenly spaced values around zero, with a step for each output channel. Codebook: 2^bits values
    for a layer, zero among them, found by k-means (Han et al. 2016). Both follow the weights in a training, which sees
    them quantized, and may be penalised by the bits that they will take in the file. Biases and norms stay as they are
    unless `fold_norms` or `vectors` says otherwise. Every later training keeps the weights on their values.
    """

    kind: Literal["quantize"] = "quantize"
    scheme: Literal["uniform", "codebook"] = Field(
        default="uniform", description="Even steps per output channel, or a layer's own values found by k-means."
    )
    bits: Bits = Field(default=8, description="Bits of a weight.")
    first_and_last_bits: Bits | None = Field(
        default=None,
        description="Bits for the network's first and last layer, which bear few values badly; null for `bits`.",
    )
    bits_per_layer: dict[NamePattern, Bits] = Field(
        default_factory=dict,
        description="Layer name, or pattern, to bits; wins over the other two, and of several the first that matches.",
    )
    calibration: Literal["mse", "max"] = Field(
        default="mse",
        description="Where a channel's uniform steps end: where the squared error is least, found by a search over "
        "clipping factors, or at the largest magnitude. Only for `uniform`.",
    )
    step_sizes: Literal["fitted", "learned"] = Field(
        default="fitted",
        description="How the steps of channels follow the weights in the training: fitted to them by least squares now "
        "and then, or learned along with them (LSQ, Esser et al. 2019). Only for `uniform`.",
    )
    rate: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Penalty on the coded length in the training: the loss that is worth one bit less per quantized "
        "weight in the compact container (Oktay et al. 2020; LilNetX); 0 for none. Only for `uniform`.",
    )
    fold_norms: bool = Field(
        default=False,
        description="Fold batch norms into the convolutions before them, behind the training: of five numbers a "
        "channel two are left. Later trainings do without these norms. Only for `uniform`.",
    )
    vectors: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="What biases, norms and steps of channels are rounded to, behind the training: `bf16` (8 bits of "
        "precision) takes under half of their bytes.",
    )
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers to quantize.")
    training: Recovery | None = Field(
        default=None, description="Quantization-aware training; null for none, which needs no data."
    )

    @model_validator(mode="after")
    def _check_scheme(self) -> Self:
        if self.fold_norms and self.scheme != "uniform":
            raise ValueError("`fold_norms` is for even steps: set `scheme` to `uniform`, or leave it out")
        asked = "rate" if self.rate > 0 else "step_sizes: learned" if self.step_sizes == "learned" else None
        if asked is not None and self.training is None:
            raise ValueError(f"`{asked}` acts in a training: give `training`, or leave it out")
        if asked is not None and self.scheme != "uniform":
            raise ValueError(f"`{asked}` is for even steps: set `scheme` to `uniform`, or leave it out")
        return self
