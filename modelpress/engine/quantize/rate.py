"""The penalty on the coded length: a training that makes its weights cheap to code, for what that costs in loss."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.quantize.coded_length import MOST_CONTEXTS, coded_length, find_contexts, nearest_levels
from modelpress.engine.quantize.held import HeldGrids, interval

# Of the median step of a weight's channels, below which a channel's own no longer makes its pull larger.
_LEAST_SHARE = 0.1


class RatePenalty:
    """loss + rate * (coded bits / weights), over the uniform weights of `names`, which are held by `grids`.

    The term needs no images, so its gradient is added to that of a whole batch: once, in whatever parts and processes
    the batch was computed. It moves the latent weights, and the steps of channels where they are learned.
    """

    def __init__(self, module: nn.Module, grids: HeldGrids, names: Collection[str], rate: float) -> None:
        self._module = module
        self._grids = grids
        self._rate = rate
        self._contexts = {
            name: torch.zeros(weight.shape, dtype=torch.uint8, device=weight.device)
            for name, weight in ((name, module.get_parameter(name)) for name in names)
        }
        self._weights = sum(contexts.numel() for contexts in self._contexts.values())
        self._bits: Tensor | None = None

    def metrics(self) -> dict[str, float]:
        """`bits_per_weight`: what the weights took before the latest step; nothing before the first."""
        return {} if self._bits is None else {"bits_per_weight": float(self._bits) / max(1, self._weights)}

    @torch.no_grad()
    def add_gradients(self, step: int, steps: int) -> None:
        """Behind the backward pass of step `step` of `steps`, from 1; the latent weights are in place.

        The classes of rows and columns are chosen anew as often as steps of channels are fitted.
        """
        choose = step == 1 or step % interval(steps) == 0
        total = torch.zeros((), device=next(self._module.parameters()).device)
        for name, contexts in self._contexts.items():
            weight, grid = self._module.get_parameter(name), self._grids[name]
            levels = len(grid.levels)
            scales = grid.scales_of(weight)
            units = weight / scales
            if choose:
                contexts = self._contexts[name] = find_contexts(nearest_levels(units, levels), levels)
            found = coded_length(units, contexts, levels)
            total += found.bits
            # d penalty / d weight. Of a channel that is all but zero, one update would make more than all others are.
            divisors = scales.clamp(min=_LEAST_SHARE * scales.median())
            pull = found.slopes.mul_(self._rate / self._weights).div_(divisors)
            if weight.grad is not None:
                weight.grad.add_(pull)
            most = levels // 2
            # d units / d scale = -units / scale
            self._grids.add_to_scales(name, -(pull * units.clamp(-most, most)).flatten(1).sum(1))
        self._bits = total

    def snapshot(self) -> Snapshot:
        """The contexts, which are chosen now and then."""
        return Snapshot(dict(self._contexts))

    def resume(self, snapshot: Snapshot) -> None:
        """Take the contexts of a penalty like this one. Raises UnusableCheckpoint."""
        for name, contexts in self._contexts.items():
            found = snapshot.like(name, contexts)
            if found.numel() and int(found.max()) >= MOST_CONTEXTS:
                raise UnusableCheckpoint(f"it has a context of {name!r} that cannot be")
            self._contexts[name] = found
