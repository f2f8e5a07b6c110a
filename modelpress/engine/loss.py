"""What a training makes small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.checkpoints.snapshot import Snapshot


@dataclass(frozen=True)
class Origin:
    """What the images of a batch were in the data set."""

    places: Tensor  # (B,) int64, from 0 to count - 1; an image and its mirror image have a place each
    count: int
    plain: Callable[[Tensor], Tensor]  # normalised images (P, C, H, W) at some places (P,)
    unchanged: bool  # the batch has nothing else but these

    def part(self, begin: int, end: int) -> Origin:
        """Of a part of the batch."""
        return replace(self, places=self.places[begin:end])


class Loss(ABC):
    """The loss of a training. What it learns itself, and what it keeps of single images, are for those that do so."""

    # By how many labelled images the labels' term of the next batch is divided; None for as many as it has.
    labelled: Tensor | None = None

    @abstractmethod
    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of a batch: `outputs` float32 (B, K), `images` as the network got them.

        `labels` are whole, int64 (B,) with UNLABELLED where there is none, or, where images are mixed, shares of the
        classes, float32 (B, K).
        """

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained along with the network, and is no part of it; nothing unless a loss says so."""
        return ()

    def teachers(self) -> Iterable[nn.Module]:
        """Networks that it asks in the arithmetic of the training; none unless a loss says so."""
        return ()

    def snapshot(self) -> Snapshot:
        """What it has to remember between two batches."""
        return Snapshot(_numbered(self.parameters()))

    def resume(self, snapshot: Snapshot) -> None:
        """Remember what another one like it did. Raises UnusableCheckpoint."""
        snapshot.copy_into(_numbered(self.parameters()))

    def prepare(self, everything: Origin, arithmetic: Arithmetic) -> Iterator[float]:  # noqa: ARG002 - nothing to do
        """Before the first batch: compute what can be computed once for all images; yields how much of it is done."""
        yield from ()

    def follow(self, origin: Origin | None, labelled: Tensor | None = None) -> None:  # noqa: ARG002 - for some losses
        """Where the images of the next batch come from; None where each is made of two.

        `labelled` where they are a part of a batch: its share of how many of the whole batch have a label, so that the
        mean over these is that of the whole, however they lie in its parts.
        """
        self.labelled = labelled


def _numbered(parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    return {str(number): parameter for number, parameter in enumerate(parameters)}
