"""Weights that are held at zero, exactly, whatever an optimiser does to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot


class Masks:
    """The masks of one module: weight's name (`features.0.weight`) to bool tensor, True where it is kept.

    Momentum and weight decay move masked weights too, so `apply` has to follow every step of the optimiser.
    """

    def __init__(self, module: nn.Module, kept: Mapping[str, Tensor] | None = None) -> None:
        self._module = module
        self._optimizer: torch.optim.Optimizer | None = None
        # As factors 0 and 1 of the weights' type: multiplying by them is seven times faster than by bools on the CPU.
        self._factors: dict[str, Tensor] = {}
        self._sparsity = 0.0
        self.update(kept or {})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the masked weights."""
        return tuple(self._factors)

    @property
    def sparsity(self) -> float:
        """Share of the masked tensors' weights that are held at zero."""
        return self._sparsity

    def kept(self) -> dict[str, Tensor]:
        """The masks, on the CPU."""
        return {name: (factor != 0).cpu().contiguous() for name, factor in self._factors.items()}

    def snapshot(self) -> Snapshot:
        """The masks."""
        return Snapshot(self.kept())

    def resume(self, snapshot: Snapshot) -> None:
        """Take the masks of a module like this one, for the same weights. Raises UnusableCheckpoint."""
        kept = self.kept()
        snapshot.copy_into(kept)
        self._factors.clear()  # no weight comes back by this: the optimiser's memory of each is another's too
        self.update(kept)

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Take note of the module's optimiser, whose memory of weights that come back is to be cleared."""
        self._optimizer = optimizer

    def update(self, kept: Mapping[str, Tensor]) -> None:
        """Take new masks for some weights, and apply all of them.

        A weight that comes back does so without momentum: what the optimiser remembers of it, gradients under the mask
        among that, is set to zero.
        """
        for name, mask in kept.items():
            weight = self._module.get_parameter(name)
            # Laid out like the weight (channels last, maybe), so that both are walked through in order of memory.
            factor = torch.empty_like(weight, requires_grad=False).copy_(mask)
            if name in self._factors:
                self._forget(weight, factor > self._like(name, self._factors[name]))
            self._factors[name] = factor
        total = sum(factor.numel() for factor in self._factors.values())
        left = sum(float(factor.sum(dtype=torch.float64)) for factor in self._factors.values())
        self._sparsity = 1 - left / total if total else 0.0
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Set the masked weights to zero."""
        for name, factor in self._factors.items():
            self._module.get_parameter(name).mul_(self._like(name, factor))

    @torch.no_grad()
    def settle(self) -> dict[str, Tensor]:
        """Apply the masks for good and return them, on the CPU.

        Multiplying leaves -0.0 where a weight was negative; adding zero makes all zeros the same bytes.
        """
        self.apply()
        for name in self._factors:
            self._module.get_parameter(name).add_(0.0)
        return self.kept()

    def apply_to_gradients(self) -> None:
        """Set the masked weights' gradients to zero, so that they do not count in the gradient's norm."""
        for name, factor in self._factors.items():
            gradient = self._module.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(self._like(name, factor))

    def _forget(self, weight: Tensor, back: Tensor) -> None:
        """Clear momentum and second moments of the weights that are True in `back`, of the weight's shape."""
        if self._optimizer is None or weight not in self._optimizer.state:
            return
        for moment in self._optimizer.state[weight].values():
            if isinstance(moment, Tensor) and moment.shape == weight.shape:
                moment.masked_fill_(back, 0.0)

    def _like(self, name: str, factor: Tensor) -> Tensor:
        weight = self._module.get_parameter(name)
        if factor.stride() != weight.stride() or factor.device != weight.device:
            factor = torch.empty_like(weight, requires_grad=False).copy_(factor)
            self._factors[name] = factor
        return factor
