"""What a training makes small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Loss(ABC):
    """The loss of a training. What it learns itself, and what it keeps of single images, are for those that do so."""

    @abstractmethod
    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of a batch: `outputs` float32 (B, K), `images` as the network got them.

        `labels` are whole, int64 (B,) with UNLABELLED where there is none, or, where images are mixed, shares of the
        classes, float32 (B, K).
        """

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained along with the network, and is no part of it; nothing unless a loss says so."""
        return ()

    def follow(self, indices: Tensor | None, count: int) -> None:  # noqa: B027 - most losses have no use for it
        """The next batch by its places (B,) among `count` images; None when its images were changed at random."""
