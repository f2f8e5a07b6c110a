"""How many channels must go for a share of what a target counts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from modelpress.engine.measure import count_macs, count_parameters
from modelpress.engine.network import Network
from modelpress.engine.prune_channels.candidates import Candidates
from modelpress.engine.prune_channels.choice import least, near_least
from modelpress.engine.prune_channels.measured import measured_bytes, measured_latency
from modelpress.engine.prune_channels.narrow import sizes_of
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import ChannelTarget


def channels_for(
    target: ChannelTarget, share: float, before: Network, sizes: Mapping[str, int], candidates: Candidates
) -> int:
    """How many channels of the ranking must go for a share of what `target` counts in the network `before`.

    The least number; near the least for stored bytes and latency. `sizes` has the channels of each group in `before`,
    by its root. Raises IncompatibleSpec when all of them are too few, or a network cannot be exported to be timed.
    """
    what = target.kind.replace("_", " ")
    if not sizes:
        raise IncompatibleSpec(f"none of the {what} can be removed from the chosen layers; choose others")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if target.kind in ("stored_bytes", "latency"):
            search = (measured_bytes if target.kind == "stored_bytes" else measured_latency)(before, candidates, folder)
            removed = cache(search.measure)
            count = near_least(
                candidates.most, share, cache(search.estimate), removed, slack=search.slack, tries=search.tries
            )
        else:
            removed = cache(_counted(target.kind, before, sizes, candidates))
            count = least(candidates.most, lambda count: removed(count) >= share)
        if count is None:
            raise IncompatibleSpec(
                f"at most {removed(candidates.most):.1%} of the {what} can be removed from the chosen layers, `target` "
                f"asks for {share:.1%}; lower it, choose more layers, or raise `max_layer_share`"
            )
        return count


def _counted(kind: str, before: Network, sizes: Mapping[str, int], candidates: Candidates) -> Callable[[int], float]:
    """The share that is gone, by the number of channels that go."""
    shape = before.description.input_shape
    if kind == "parameters":
        parameters = count_parameters(before.module)
        return lambda count: 1 - count_parameters(candidates.outline(count)) / parameters
    if kind == "macs":
        macs = count_macs(before.module, shape)
        return lambda count: 1 - count_macs(candidates.outline(count), shape) / macs
    channels = sum(sizes.values())
    left = sum((sizes_of(candidates.current.module.get_submodule(root)) or (0, 0))[1] for root in sizes)
    gone = channels - left  # in earlier rounds
    return lambda count: (gone + sum(map(len, candidates.gone(count).values()))) / channels
