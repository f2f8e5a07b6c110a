"""An exponential moving average of a network's weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot
from modelpress.spec.config import Config


class _Averaged(Config):
    updates: int = Field(ge=0, description="Steps that were taken in.")


class WeightAverage:
    """The average of one module's weights, and of its buffers, over the steps of a training.

    After step t: average = d average + (1 - d) weight with d = min(decay, (1 + t) / (10 + t)), so that the weights at
    the beginning are soon forgotten. Running statistics of batch norms are averaged alike: they are means over batches
    already, and taking them anew would cost another pass over the images. Buffers that are not floating point are the
    latest ones.

    What is averaged is what the optimiser moves: with quantized weights the latent ones, and zero where a weight is
    masked. An average of values of a grid is not on the grid, and one of a weight that was masked on the way is not
    zero, so masks and grids have to be held on it once more, as on any weights that a step of the optimiser moved.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._updates = 0
        self._averages = {name: tensor.detach().clone() for name, tensor in tensors_of(module).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for name, tensor in tensors_of(self._module).items():
            if tensor.is_floating_point():
                self._averages[name].lerp_(tensor, 1 - decay)
            else:
                self._averages[name].copy_(tensor)

    def snapshot(self) -> Snapshot:
        """The averages so far."""
        return Snapshot(self._averages, _Averaged(updates=self._updates).model_dump())

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from averages of a module like this one. Raises UnusableCheckpoint."""
        snapshot.copy_into(self._averages)
        self._updates = snapshot.read(_Averaged).updates

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the place of the module's weights, which come back afterwards; changes to either are kept."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def leave(self) -> None:
        """Put the averages in the place of the module's weights for good."""
        restore(self._module, self._averages)

    def _swap(self) -> None:
        for name, tensor in tensors_of(self._module).items():
            tensor.data, self._averages[name] = self._averages[name], tensor.data


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def restore(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy `values`, named as `tensors_of` does, into a module's parameters and buffers."""
    for name, tensor in tensors_of(module).items():
        tensor.copy_(values[name])
