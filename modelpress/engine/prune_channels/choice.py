"""Which channels go: the least important ones, and no more of them than the target asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from modelpress.spec.steps import PruneChannels


def most_removable(channels: int, step: PruneChannels) -> int:
    """Channels that a layer of so many may lose at most, by `max_layer_share` and `round_to`; one always stays."""
    least = max(1, channels - math.floor(step.max_layer_share * channels + 1e-9))
    return max(0, channels - _rounded_up(least, step.round_to))


def ranked(importance: Mapping[str, Tensor], step: PruneChannels) -> list[tuple[str, int]]:
    """(group, channel) of all channels that may go, the first to go first.

    `global` compares importances divided by their group's mean; `local` takes turns, so that each group has lost the
    same share whenever one stops.
    """
    order: list[tuple[float, str, int]] = []
    for group, scores in importance.items():
        mean = float(scores.mean()) or 1.0
        channels = scores.argsort(stable=True).tolist()
        for place, channel in enumerate(channels[: most_removable(len(channels), step)]):
            first = float(scores[channel]) / mean if step.scope == "global" else (place + 1) / len(channels)
            order.append((first, group, channel))
    order.sort(key=lambda entry: entry[0])  # stable: of equals, the group that comes first in the network
    return [(group, channel) for _, group, channel in order]


def rounded(gone: Mapping[str, list[int]], sizes: Mapping[str, int], round_to: int) -> dict[str, list[int]]:
    """What goes when every layer that loses channels keeps a multiple of `round_to`: in doubt it loses fewer."""
    result = {}
    for group, channels in gone.items():
        left = _rounded_up(sizes[group] - len(channels), round_to)
        if left < sizes[group]:
            result[group] = channels[: sizes[group] - left]
    return result


def least(most: int, reached: Callable[[int], bool]) -> int | None:
    """The smallest of 1 ... most for which `reached`, which never turns false again, is true; None when none is."""
    if most < 1 or not reached(most):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
