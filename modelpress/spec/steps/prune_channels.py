"""The step `prune_channels`: how many channels go, which first, and from where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelpress.spec.config import Config
from modelpress.spec.steps.selection import LayerSelection
from modelpress.spec.training import Recovery


class ChannelTarget(Config):
    """How much is to go. The least removal that reaches it is taken, or close to the least where it is measured."""

    kind: Literal["channels", "parameters", "macs", "stored_bytes", "latency"] = Field(
        description="What is counted: output channels of the layers that can be treated; or parameters, "
        "multiply-accumulates, bytes of the compact container, or the measured time of one image (ONNX Runtime, one "
        "thread) of the whole network."
    )
    removed: float = Field(gt=0, lt=1, description="Share of it that goes, at least.")


class PruneChannels(Config):
    """Take the least important channels out of the network, with every weight that makes or reads them.

    Layers whose outputs are added to one another lose the same channels. Layers that cannot be treated stay, and the
    report names them (dependency graph: Fang et al. 2023, arXiv 2301.12900).
    """

    kind: Literal["prune_channels"] = "prune_channels"
    target: ChannelTarget = Field(description="How much is to go.", examples=[{"kind": "macs", "removed": 0.5}])
    criterion: Literal["l1", "l2", "bn_scale", "geometric_median", "taylor", "hessian", "random"] = Field(
        default="l2",
        description="Importance of a channel: the norm of the weights that make it, the magnitude of its batch norm's "
        "factor, its distance from the layer's other channels, what the loss would change by without it to first "
        "(`taylor`) or second order (`hessian`), both of which need data, or drawn at random; the mean over layers "
        "that share the channel.",
    )
    calibration_images: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description="Training images that `taylor` and `hessian` take gradients over, in each round.",
    )
    scope: Literal["global", "local"] = Field(
        default="global",
        description="Compare channels over all chosen layers, each importance divided by its layer's mean; or take "
        "the same share of each.",
    )
    round_to: int = Field(
        default=1, ge=1, le=64, description="Layers that lose channels keep a multiple of this many of them."
    )
    max_layer_share: float = Field(
        default=1.0, gt=0, le=1, description="Most that a layer may lose, as a share of its channels; one always stays."
    )
    layers: LayerSelection = Field(default_factory=LayerSelection, description="Layers whose output channels may go.")
    rounds: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Rounds of removal and training in turn, each an equal part of the removal; importance is taken "
        "anew in each. The epochs of `training` are divided over them.",
    )
    training: Recovery | None = Field(default=None, description="Training of what is left; null for none.")

    @property
    def takes_gradients(self) -> bool:
        """True when it cannot be done without data, even without a training."""
        return self.criterion in ("taylor", "hessian")

    @model_validator(mode="after")
    def _rounds_train(self) -> PruneChannels:
        if self.rounds > 1 and self.training is None:
            raise ValueError("rounds are removal and training in turn: give `training`, or leave `rounds` at 1")
        if self.training is not None and self.rounds > self.training.epochs:
            raise ValueError(
                f"`rounds` ({self.rounds}) divide the training's epochs, of which there are {self.training.epochs}: "
                "raise `epochs`, or ask for fewer rounds"
            )
        return self
