"""A teacher's logits, computed once where the images come back as they were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.arithmetic import logits_of
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.loss import Loss

_MOST_KEPT = 2**28  # numbers: 1 GiB


class CachedTeacher:
    """A teacher's logits (B, K), float32, without gradients; kept by the image's index where `follow` tells it."""

    def __init__(self, teacher: nn.Module) -> None:
        self._teacher = teacher
        self._indices: Tensor | None = None
        self._count = 0
        self._logits: Tensor | None = None  # (N, K)
        self._known = torch.zeros(0, dtype=torch.bool)  # (N,)

    def follow(self, indices: Tensor | None, count: int) -> None:
        """The next batch by its places (B,) among `count` images; None when its images were changed at random."""
        self._indices, self._count = indices, count

    def snapshot(self) -> Snapshot:
        """What it has computed: in other batches it would be the same only to rounding."""
        return Snapshot() if self._logits is None else Snapshot({"logits": self._logits, "known": self._known})

    def resume(self, snapshot: Snapshot) -> None:
        """Know what another one computed. Raises UnusableCheckpoint."""
        logits, known = snapshot.tensors.get("logits"), snapshot.tensors.get("known")
        if logits is None or known is None:
            return
        if logits.ndim != 2 or logits.dtype != torch.float32 or known.dtype != torch.bool or known.ndim != 1:
            raise UnusableCheckpoint("its teacher's answers have another shape")
        if len(logits) != len(known):
            raise UnusableCheckpoint("its teacher's answers are not all there")
        device = next(self._teacher.parameters(), logits).device
        self._logits, self._known = logits.to(device, copy=True), known.to(device, copy=True)

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of normalised `images` (B, C, H, W)."""
        if self._indices is None:
            return self._compute(images)
        indices = self._indices.to(images.device)
        if self._logits is not None and bool(self._known[indices].all()):
            return self._logits[indices]
        taught = self._compute(images)
        if self._count * taught.shape[1] > _MOST_KEPT:
            return taught
        if self._logits is None:
            self._logits = taught.new_zeros(self._count, taught.shape[1])
            self._known = torch.zeros(self._count, dtype=torch.bool, device=taught.device)
        self._logits[indices] = taught
        self._known[indices] = True
        return taught

    def _compute(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return logits_of(self._teacher(images)).float()


class TaughtLoss(Loss):
    """A loss that asks a teacher for its logits, once where the images allow it."""

    def __init__(self, teacher: nn.Module) -> None:
        self._teacher = CachedTeacher(teacher)

    def follow(self, indices: Tensor | None, count: int) -> None:
        """The next batch, whose images the teacher may have seen before."""
        self._teacher.follow(indices, count)

    def snapshot(self) -> Snapshot:
        """What the teacher has said."""
        return self._teacher.snapshot()

    def resume(self, snapshot: Snapshot) -> None:
        """Know what the teacher has said before. Raises UnusableCheckpoint."""
        self._teacher.resume(snapshot)
