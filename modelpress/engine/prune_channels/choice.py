"""Which channels go: the least important ones, and no more of them than the target asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from modelpress.spec.steps import PruneChannels


def most_removable(channels: int, step: PruneChannels) -> int:
    """Channels that a layer of so many may lose at most, by `max_layer_share` and `round_to`; one always stays."""
    least = max(1, channels - math.floor(step.max_layer_share * channels + 1e-9))
    return max(0, channels - _rounded_up(least, step.round_to))


def ranked(importance: Mapping[str, Tensor], step: PruneChannels, sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """(group, channel) of all channels that may go, the first to go first; `sizes` says how many a group had at first.

    `global` compares importances divided by their group's mean; `local` takes turns, so that each group has lost the
    same share whenever one stops.
    """
    order: list[tuple[float, str, int]] = []
    for group, scores in importance.items():
        mean = float(scores.mean()) or 1.0
        channels = scores.argsort(stable=True).tolist()
        shares = (scores / mean).tolist()
        removable = most_removable(sizes[group], step) - (sizes[group] - len(channels))
        for place, channel in enumerate(channels[: max(0, removable)]):
            first = shares[channel] if step.scope == "global" else (place + 1) / len(channels)
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
    """The smallest of 0 ... most for which `reached`, which never turns false again, is true; None when none is."""
    if not reached(most):
        return None
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle + 1
    return low


def near_least(
    most: int,
    share: float,
    estimate: Callable[[int], float],
    measure: Callable[[int], float],
    *,
    slack: float,
    tries: int,
) -> int | None:
    """One of 0 ... most whose measured share is at least `share`, and hardly more; None when none was found.

    For what is too slow to measure often, or differs from time to time: `estimate` says roughly, and quickly, where to
    look. Measures up to `tries` times, the last time at `most` if nothing reached the share before, and ends sooner
    once it is passed by no more than `slack`; of those that reached it, the least is taken.
    """
    # (count, estimated, measured) on either side of the share; nothing is gone at 0
    below = (0, estimate(0), 0.0)
    above: tuple[int, float, float] | None = None
    aim = share
    for attempt in range(tries):
        found = least(most, partial(_reaches, estimate, aim)) if attempt < tries - 1 or above is not None else None
        count = most if found is None else found
        count = max(count, below[0] + 1)
        count = min(count, most if above is None else above[0] - 1)
        if count <= below[0]:  # nothing lies between
            break
        here = (count, estimate(count), measure(count))
        if here[2] >= share:
            above = here
            if here[2] <= share + slack:
                break
        else:
            below = here
        wanted = share + slack / 2
        if above is None:
            # What is left goes down with what is left of the estimate, in proportion.
            aim = 1 - (1 - here[1]) * (1 - wanted) / max(1 - here[2], 1e-9)
        else:
            run = (wanted - below[2]) / max(above[2] - below[2], 1e-9)
            aim = below[1] + min(run, 1.0) * (above[1] - below[1])
    return None if above is None else above[0]


def _reaches(estimate: Callable[[int], float], aim: float, count: int) -> bool:
    return estimate(count) >= aim


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
