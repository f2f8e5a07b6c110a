"""A teacher's logits, computed once where the images come back as they were."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.loss import Loss, Origin
from modelpress.engine.scores import logits_of

_MOST_KEPT = 2**28  # numbers: 1 GiB
_CHUNK = 256  # images that are asked about together


class KeptAnswers:
    """Logits (N, K) of one teacher on whole data sets, for all steps of a job."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tensor] = {}

    def get(self, key: Hashable) -> Tensor | None:
        """What was kept under this key, on the CPU."""
        return self._kept.get(key)

    def keep(self, key: Hashable, logits: Tensor) -> None:
        """Keep them in main memory."""
        self._kept[key] = logits.cpu()

    def __getstate__(self) -> dict[str, object]:
        """Whoever gets a loss by pickle gets what that one needs with it, and not what others had."""
        return {"_kept": {}}


@dataclass(frozen=True)
class Asking:
    """How a teacher is asked."""

    plain: bool = False  # about images as the data set has them, whatever the student sees
    kept: KeptAnswers = field(default_factory=KeptAnswers)
    images: Hashable = None  # which ones, and normalised how: to tell answers apart that are kept


class CachedTeacher:
    """A teacher's logits (B, K), float32, without gradients; kept by the image's place where images come back.

    It is asked about the images that the student sees; or, where `plain`, about those that they were made of, which
    come back whatever was done to them for the student. Such a teacher is a little wrong on each, but costs a pass or
    two over the data set in place of one an epoch ("fixed teacher", Beyer et al. 2022, arXiv 2106.05237, section 3.1,
    who find the other one better for as many epochs).
    """

    def __init__(self, teacher: nn.Module, asking: Asking | None = None) -> None:
        self.network = teacher
        self._asking = Asking() if asking is None else asking
        self._origin: Origin | None = None
        self._logits = torch.zeros(0, 0)  # (N, K)
        self._known = 0  # the first so many of them

    def prepare(self, everything: Origin, arithmetic: Arithmetic) -> Iterator[float]:
        """Answer for all images from which batches will come; yields how much of it is done, up to 1.

        In the order of the data set and in chunks of one size, so that the answers are the same to the last bit
        whichever training asks first, and wherever it was broken off.
        """
        if not self._keeps(everything):
            return
        device = next(self.network.parameters(), self._logits).device
        key = (self._asking.images, everything.count, arithmetic.precision, arithmetic.channels_last)
        known = self._asking.kept.get(key)
        if known is not None:
            self._logits, self._known = known.to(device), len(known)
            return
        while self._known < everything.count:
            places = torch.arange(self._known, min(self._known + _CHUNK, everything.count))
            with arithmetic.autocast(device):
                taught = self._compute(everything.plain(places))
            if everything.count * taught.shape[1] > _MOST_KEPT:
                return
            if self._known == 0:
                self._logits = taught.new_zeros(everything.count, taught.shape[1])
            self._logits[places.to(device)] = taught
            self._known += len(places)
            yield self._known / everything.count
        self._asking.kept.keep(key, self._logits)

    def follow(self, origin: Origin | None) -> None:
        """What the images of the next batch come from."""
        self._origin = origin

    def snapshot(self) -> Snapshot:
        """What it has answered: to compute it again would take long."""
        return Snapshot({"logits": self._logits}, self._known) if self._known else Snapshot()

    def resume(self, snapshot: Snapshot) -> None:
        """Know what another one answered. Raises UnusableCheckpoint."""
        logits, known = snapshot.tensors.get("logits"), snapshot.facts
        if logits is None:
            return
        if logits.ndim != 2 or logits.dtype != torch.float32 or not isinstance(known, int):
            raise UnusableCheckpoint("its teacher's answers have another shape")
        if not 0 <= known <= len(logits):
            raise UnusableCheckpoint("its teacher's answers are not all there")
        device = next(self.network.parameters(), logits).device
        self._logits, self._known = logits.to(device, copy=True), known

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of normalised `images` (B, C, H, W)."""
        origin = self._origin
        if origin is None or not self._keeps(origin):
            return self._compute(images)
        if self._known == origin.count:
            return self._logits[origin.places.to(images.device)]
        # Images that are otherwise unchanged may have been made smaller for the student.
        return self._compute(origin.plain(origin.places) if self._asking.plain else images)

    def _keeps(self, origin: Origin) -> bool:
        return self._asking.plain or origin.unchanged

    def _compute(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return logits_of(self.network, images)


class TaughtLoss(Loss):
    """A loss that asks a teacher for its logits, once where the images, or their plain form, come back."""

    def __init__(self, teacher: nn.Module, asking: Asking | None = None) -> None:
        self._teacher = CachedTeacher(teacher, asking)

    def teachers(self) -> Iterable[nn.Module]:
        """The one that it asks."""
        return (self._teacher.network,)

    def prepare(self, everything: Origin, arithmetic: Arithmetic) -> Iterator[float]:
        """Have the teacher answer for all images where it will be asked about each."""
        return self._teacher.prepare(everything, arithmetic)

    def follow(self, origin: Origin | None, labelled: Tensor | None = None) -> None:
        """The next batch, whose images the teacher may have seen before."""
        super().follow(origin, labelled)
        self._teacher.follow(origin)

    def snapshot(self) -> Snapshot:
        """What the teacher has said."""
        return self._teacher.snapshot()

    def resume(self, snapshot: Snapshot) -> None:
        """Know what the teacher has said before. Raises UnusableCheckpoint."""
        self._teacher.resume(snapshot)
