"""A network whose training takes more memory than there is, for batches above some size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Appetite:
    """A forward hook: torch's own error for a GPU without room, in training, for more than `most` images."""

    most: int
    rank: int | None = None  # of the process that has no room; None for each
    error: type[Exception] = torch.OutOfMemoryError

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if module.training and self.rank in (None, rank) and len(inputs[0]) > self.most:
            raise self.error("CUDA out of memory. Tried to allocate more than there is.")


def hungry(module: nn.Module, most: int, rank: int | None = None) -> nn.Module:
    """`module` itself, that can no longer be trained on more than `most` images at once."""
    module.register_forward_pre_hook(Appetite(most, rank))
    return module
