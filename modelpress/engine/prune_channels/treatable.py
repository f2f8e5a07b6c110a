"""Which groups of channels a step may take from, how much each of their channels matters, and why others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.prune_channels.choice import most_removable
from modelpress.engine.prune_channels.groups import Group
from modelpress.engine.prune_channels.importance import Importance
from modelpress.engine.prune_channels.trial import find_groups
from modelpress.engine.step import StepContext
from modelpress.spec.steps import PruneChannels


@dataclass(frozen=True)
class Treatable:
    """Groups that may lose channels, the importance of their channels by their roots, and why other layers stay."""

    groups: list[Group]
    scores: dict[str, Tensor]
    reasons: dict[str, str]


def treatable(
    network: Network, step: PruneChannels, context: StepContext, chosen: Sequence[str], generator: torch.Generator
) -> Treatable:
    """Look at the network as it is now. Raises IncompatibleSpec when it cannot be traced, or data is needed."""
    groups, reasons = find_groups(network.module, network.description.input_shape)
    weighted = weighted_layers(network.module)
    treated: list[Group] = []
    for group in groups:
        makers = [name for name in group.makers if name in weighted]
        others = [name for name in makers if name not in chosen]
        if others:
            reason = f"it shares its channels with {others[0]!r}, which is not chosen"
        elif most_removable(group.channels, step) == 0:
            reason = f"`max_layer_share` and `round_to` let none of its {group.channels} channels go"
        else:
            treated.append(group)
            continue
        reasons.update(dict.fromkeys(makers, reason))
    importance = Importance(network, step, context, treated)
    scores: dict[str, Tensor] = {}
    for group in treated:
        score = importance.of(group, generator)
        if score is None:
            reason = f"nothing that `{step.criterion}` could compare makes its channels"
        elif not bool(torch.isfinite(score).all()):
            reason = "its weights are not finite numbers"
        else:
            scores[group.root] = score
            continue
        reasons.update({name: reason for name in group.makers if name in weighted})
    return Treatable([group for group in treated if group.root in scores], scores, reasons)
