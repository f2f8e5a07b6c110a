"""The step `prune_channels`: how many channels go, which first, and from where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelpress.spec.config import Config
from modelpress.spec.steps.selection import LayerSelection
from modelpress.spec.training import Recovery


class ChannelTarget(Config):
    """How much is to go. The least removal that reaches it is taken."""

    kind: Literal["channels", "parameters", "macs"] = Field(
        description="What is counted: output channels of the layers that can be treated, or parameters or "
        "multiply-accumulates of the whole network."
    )
    removed: float = Field(gt=0, lt=1, description="Share of it that goes, at least.")


class PruneChannels(Config):
    """Take the least important channels out of the network, with every weight that makes or reads them.

    Layers whose outputs are added to one another lose the same channels. Layers that cannot be treated stay, and the
    report names them (dependency graph: Fang et al. 2023, arXiv 2301.12900).
    """

    kind: Literal["prune_channels"] = "prune_channels"
    target: ChannelTarget = Field(description="How much is to go.", examples=[{"kind": "macs", "removed": 0.5}])
    criterion: Literal["l1", "l2", "bn_scale", "random"] = Field(
        default="l2",
        description="Importance of a channel: the norm of the weights that make it (Li et al. 2017), the magnitude of "
        "its batch norm's factor (Liu et al. 2017), or drawn at random; the mean over layers that share the channel.",
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
    training: Recovery | None = Field(default=None, description="Training of what is left; null for none.")
