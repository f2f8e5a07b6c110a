"""Which channels go: the least important ones, and no more of them than the target asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    # On either side of the share. What earlier rounds took is not measured again.
    below, above = _Point(0, estimate(0), estimate(0)), None
    aim = share
    for attempt in range(tries):
        found = least(most, partial(_reaches, estimate, aim)) if attempt < tries - 1 or above is not None else None
        count = max(most if found is None else found, below.count + 1)
        count = min(count, most if above is None else above.count - 1)
        if count <= below.count:  # nothing lies between
            break
        here = _Point(count, estimate(count), measure(count))
        if here.measured < share:
            below = here
        else:
            above = here
            if here.measured <= share + slack:
                break
        aim = _aim(below, above, share + slack / 2, estimate(most), straight=attempt == 0)
    return None if above is None else above.count


@dataclass(frozen=True)
class _Point:
    """A number of channels, and the share that is gone without them."""

    count: int
    estimated: float
    measured: float


def _aim(below: _Point, above: _Point | None, wanted: float, most: float, *, straight: bool) -> float:
    """The estimate at which to look for a share next.

    What is left is taken to be a power of what is left by the estimate. Where one such guess from below fell short,
    the next goes halfway to the end, so that the share soon lies between two points.
    """
    if above is None and not straight:
        return (below.estimated + most) / 2
    start, end = (below, above) if above is not None else (_Point(0, 0.0, 0.0), below)
    run, rise = (
        _log_left(end.estimated) - _log_left(start.estimated),
        _log_left(end.measured) - _log_left(start.measured),
    )
    if rise >= 0:  # more was gone with fewer channels, as far as one could measure
        return (below.estimated + (most if above is None else above.estimated)) / 2
    exponent = _log_left(start.estimated) + run * (_log_left(wanted) - _log_left(start.measured)) / rise
    return 1 - math.exp(min(0.0, exponent))


def _log_left(gone: float) -> float:
    return math.log(max(1 - gone, 1e-9))


def _reaches(estimate: Callable[[int], float], aim: float, count: int) -> bool:
    return estimate(count) >= aim


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
