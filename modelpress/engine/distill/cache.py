"""A teacher's logits, computed once where the images come back as they were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.arithmetic import logits_of
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.loss import Loss, Origin

_MOST_KEPT = 2**28  # numbers: 1 GiB


class CachedTeacher:
    """A teacher's logits (B, K), float32, without gradients; kept by the image's place where images come back.

    It is asked about the images that the student sees; or, where `plain`, about those that they were made of, which
    come back whatever was done to them for the student. Such a teacher is a little wrong on each, but costs a pass or
    two over the data set in place of one an epoch ("fixed teacher", Beyer et al. 2022, arXiv 2106.05237, section 3.1,
    who find the other one better for as many epochs).
    """

    def __init__(self, teacher: nn.Module, *, plain: bool = False) -> None:
        self._teacher = teacher
        self._plain = plain
        self._origin: Origin | None = None
        self._logits = torch.zeros(0, 0)  # (N, K)
        self._known = torch.zeros(0, dtype=torch.bool)  # (N,)

    def follow(self, origin: Origin | None) -> None:
        """What the images of the next batch come from."""
        self._origin = origin

    def snapshot(self) -> Snapshot:
        """What it has computed: in other batches it would be the same only to rounding."""
        return Snapshot() if len(self._known) == 0 else Snapshot({"logits": self._logits, "known": self._known})

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
        origin = self._origin
        if origin is None or not (self._plain or origin.unchanged):
            return self._compute(images)
        places = origin.places.to(images.device)
        kept = len(self._known) == origin.count
        new = ~self._known[places] if kept else torch.ones(len(places), dtype=torch.bool, device=places.device)
        if bool(new.any()):
            taught = self._compute(origin.plain(places[new]))
            if not kept:
                if origin.count * taught.shape[1] > _MOST_KEPT:
                    return taught
                self._logits = taught.new_zeros(origin.count, taught.shape[1])
                self._known = torch.zeros(origin.count, dtype=torch.bool, device=taught.device)
            self._logits[places[new]] = taught
            self._known[places[new]] = True
        return self._logits[places]

    def _compute(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return logits_of(self._teacher(images)).float()


class TaughtLoss(Loss):
    """A loss that asks a teacher for its logits, once where the images, or their `plain` form, come back."""

    def __init__(self, teacher: nn.Module, *, plain: bool = False) -> None:
        self._teacher = CachedTeacher(teacher, plain=plain)

    def follow(self, origin: Origin | None) -> None:
        """The next batch, whose images the teacher may have seen before."""
        self._teacher.follow(origin)

    def snapshot(self) -> Snapshot:
        """What the teacher has said."""
        return self._teacher.snapshot()

    def resume(self, snapshot: Snapshot) -> None:
        """Know what the teacher has said before. Raises UnusableCheckpoint."""
        self._teacher.resume(snapshot)
