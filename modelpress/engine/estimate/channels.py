"""A network without some of its channels: shapes alone, by the same groups and the same order as the step's."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch

from modelpress.engine.estimate.entanglement import rearrangements
from modelpress.engine.estimate.outlook import Outlook
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.prune_channels.candidates import Candidates
from modelpress.engine.prune_channels.choice import ranked
from modelpress.engine.prune_channels.narrow import edit_between
from modelpress.engine.prune_channels.target import channels_for
from modelpress.engine.prune_channels.treatable import Treatable, treatable
from modelpress.engine.step import StepContext
from modelpress.spec.check import select_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import PruneChannels


class Channels:
    """The channels of one network, traced once, when they are first asked for."""

    # Tracing takes under two seconds up to here; a minute and more in windowed attention.
    most_rearrangements = 400

    def __init__(self, network: Network) -> None:
        self._network = network

    def without(self, outlook: Outlook, step: PruneChannels) -> Outlook:
        """The network without the step's share of channels; what is left of a weight is as its sample is.

        `outlook` is of the network as it is. Raises IncompatibleSpec when it cannot be traced, or too much is to go.
        """
        found = self._treatable
        chosen = select_layers(outlook.layers, step.layers)
        sizes = {group.root: group.channels for group in found.groups}
        candidates = Candidates(self._network, found.groups, ranked(found.scores, step, sizes), step.round_to)
        count = channels_for(step.target, step.target.removed, self._network, sizes, candidates)
        small = candidates.outline(count)
        shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
        tensors = {
            name: replace(sample, size=shapes[name].numel(), channels=shapes[name][0] if len(shapes[name]) > 1 else 1)
            for name, sample in outlook.tensors.items()
        }
        edit = edit_between(self._network.module, small)
        left = [SkippedLayer(name=name, reason=found.reasons[name]) for name in chosen if name in found.reasons]
        return outlook.with_tensors(tensors, left, description=outlook.description.edited(edit))

    @cached_property
    def _treatable(self) -> Treatable:
        found = rearrangements(self._network.module, self._network.description.input_shape)
        if found > self.most_rearrangements:
            raise IncompatibleSpec(
                f"not estimated: its channels are rearranged {found} times on their way, and to follow them takes too "
                "long for an inspection; the job does it"
            )
        step = PruneChannels.model_validate({"target": {"kind": "channels", "removed": 0.5}})
        context = StepContext(original=self._network, data=None, seed=0, device=torch.device("cpu"))
        every = list(weighted_layers(self._network.module))
        return treatable(self._network, step, context, every, torch.Generator().manual_seed(0))
