"""Which images of each batch a rank computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One rank's part of every batch; the parts of all ranks make up the batch, in order.

    A batch is dealt out evenly over as many ranks as get at least `least` images each, rank 0 always among them; the
    others sit it out. (Batch norm needs two images to average over.)
    """

    rank: int = 0
    ranks: int = 1
    least: int = 1

    def of(self, images: int) -> slice:
        """The places of this rank's images in a batch of so many."""
        taking = max(1, min(self.ranks, images // self.least))
        if self.rank >= taking:
            return slice(images, images)
        return slice(images * self.rank // taking, images * (self.rank + 1) // taking)


WHOLE = Share()
