"""Weights that are dropped and grown during a training, as many as each other (RigL: Evci et al. 2020, 1911.11134)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.schedule import dropped_share
from modelpress.engine.prune.scores import keep_highest
from modelpress.spec.check.prune import never_exchanged
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import RigL


def drop_and_grow(weight: Tensor, gradient: Tensor, kept: Tensor, count: int) -> Tensor:
    """The mask (True is kept) of one layer behind an exchange of `count` weights, all four in the weight's shape.

    Of the kept weights the `count` of the least magnitude go; then, of all that are not kept, those just dropped among
    them, as many come whose gradient is largest (algorithm 1 of the paper). What comes back at once has not moved. Of
    equal ones the first in memory goes first. As many are kept as before.

    Weights [4, -1, 3, 0, 0, 0] of which the first three are kept, gradients [9, 9, 9, 1, 7, 5] and one to exchange:
    -1 goes and comes back, as none outside has a larger gradient; with a gradient of 2 the fifth takes its place.
    """
    removed = kept.numel() - int(kept.sum())
    survivors = keep_highest({"": weight.detach().abs()}, removed + count, {"": kept})[""]
    grown = keep_highest({"": gradient.abs()}, kept.numel() - count, {"": ~survivors})[""]
    return survivors | grown


class Regrowth:
    """Exchanges weights of some layers when a training's schedule says so.

    Call it behind each backward pass, when the gradients are there, those of masked weights too, and before the
    optimiser's step, which the paper leaves out at an exchange and which here moves the weights that have just come
    for the first time.
    """

    def __init__(self, schedule: RigL, weights: Mapping[str, nn.Parameter], masks: Masks) -> None:
        """`weights` are those of the layers, by the names that `masks` has for them."""
        self._schedule = schedule
        self._weights = dict(weights)
        self._masks = masks

    def __call__(self, step: int, steps: int) -> None:
        """Exchange weights at step `step`, from 1, of `steps`, where that is due.

        Raises IncompatibleSpec at the first step of a training that is too short for a single exchange.
        """
        updates = self._schedule.updates(steps)
        if not updates:
            raise IncompatibleSpec(never_exchanged(self._schedule, steps))
        if step not in updates:
            return
        share = dropped_share(self._schedule, step, steps)
        kept = self._masks.kept()
        exchanged = {}
        for name, weight in self._weights.items():
            if weight.grad is not None:  # else nothing says what should come
                count = int(share * int(kept[name].sum()))
                exchanged[name] = drop_and_grow(weight, weight.grad, kept[name].to(weight.device), count)
        self._masks.update(exchanged)
