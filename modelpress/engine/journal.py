"""What a training tells of itself: loss, accuracy, speed, and whether it diverged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from modelpress.engine.checkpoints.snapshot import Snapshot
from modelpress.spec.config import Config
from modelpress.spec.failure import Diverged
from modelpress.spec.training import Training

_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands."""

    fraction: float  # of the training, 0..1
    epoch: int  # at work, from 1
    epochs: int
    # step, epoch, loss, accuracy (top-1 of the training batches; of mixed images the larger part's label counts),
    # learning_rate, images_per_second, seconds_left; validation_accuracy (of the latest epoch) where images are kept
    # apart for it; sparsity where weights are held at zero. Before the first step only teacher_answers (0..1), if a
    # teacher answers for all images first.
    metrics: dict[str, float]


class _Entries(Config):
    step: int = Field(ge=0, description="Steps so far.")
    images: int = Field(ge=0, description="Images so far.")
    seconds: float = Field(ge=0, description="Spent on training so far.")
    aside: float = Field(ge=0, description="Seconds spent on something else.")
    before: float = Field(ge=0, description="Of these, seconds before the first step.")
    epoch_loss: float = Field(description="Mean of the latest finished epoch.")
    epoch_sum: float = Field(description="Of the losses of the epoch at work.")
    epoch_steps: int = Field(ge=0, description="Steps of the epoch at work.")
    metrics: dict[str, float]


class Journal:
    """Loss, speed and reports of a training. Losses are summed on the device and read when something is due."""

    def __init__(
        self,
        training: Training,
        steps: int,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        self.epoch_loss = 0.0  # mean of the latest finished epoch
        self._training = training
        self._steps = steps
        self._on_progress = on_progress
        # Sums since the last reading: losses, right answers, images with a label.
        self._recent = torch.zeros(3, device=device)
        self._recent_steps = 0
        self._epoch_sum = 0.0
        self._epoch_steps = 0
        self._images = 0
        self._step = 0
        self._epoch = 1
        self._metrics: dict[str, float] = {}
        self._begin = self._reported = self._latest = time.perf_counter()
        self._aside = 0.0  # seconds spent on something else than training
        self._aside_since: float | None = None  # where that is going on
        self._before = 0.0  # of these, seconds before the first step

    @property
    def images_per_second(self) -> float:
        """Training images per second so far; validation is not counted."""
        return self._images / max(self._latest - self._begin - self._aside, 1e-9)

    def note(self, figures: Tensor, images: int, *, epoch: int, learning_rate: float) -> None:
        """Take in a step that was made on so many images, and report if that is due. Raises Diverged.

        `figures` (3,): the mean loss, the number of right answers, and of images that have a label.
        """
        self._recent += figures
        self._recent_steps += 1
        self._images += images
        self._step += 1
        self._epoch = epoch
        self._metrics["learning_rate"] = learning_rate
        self._latest = time.perf_counter()
        if self._latest - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._read()
            self._report()

    def note_answers(self, share: float) -> None:
        """A teacher has answered for this share of the images, before the first step."""
        self._latest = time.perf_counter()
        if self._on_progress is not None and self._latest - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = self._latest
            self._on_progress(TrainingProgress(0.0, self._epoch, self._training.epochs, {"teacher_answers": share}))

    def close_epoch(self) -> None:
        """Take the mean loss of the epoch. Raises Diverged."""
        self._read()
        self._latest = time.perf_counter()  # what a GPU still had to compute is done now
        self.epoch_loss = self._epoch_sum / self._epoch_steps
        self._epoch_sum, self._epoch_steps = 0.0, 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something else than training is done: its time does not count for the speed."""
        self._aside_since = time.perf_counter()
        yield
        self._count_aside()
        self._aside_since = None

    def _count_aside(self) -> None:
        """Take in what has gone by of the time that does not count; it goes on."""
        if self._aside_since is None:
            return
        self._latest = time.perf_counter()
        spent, self._aside_since = self._latest - self._aside_since, self._latest
        self._aside += spent
        if self._step == 0:
            self._before += spent

    def snapshot(self) -> Snapshot:
        """What was noted so far. Raises Diverged."""
        self._read()
        self._count_aside()
        entries = _Entries(
            step=self._step,
            images=self._images,
            seconds=self._latest - self._begin,
            aside=self._aside,
            before=self._before,
            epoch_loss=self.epoch_loss,
            epoch_sum=self._epoch_sum,
            epoch_steps=self._epoch_steps,
            metrics=self._metrics,
        )
        return Snapshot(facts=entries.model_dump())

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from these notes; the time between the two processes counts for nothing. Raises UnusableCheckpoint."""
        entries = snapshot.read(_Entries)
        self._step, self._images, self._metrics = entries.step, entries.images, dict(entries.metrics)
        self._aside, self._before = entries.aside, entries.before
        self._begin -= entries.seconds
        self.epoch_loss = entries.epoch_loss
        self._epoch_sum, self._epoch_steps = entries.epoch_sum, entries.epoch_steps

    def note_validation(self, accuracy: float, *, ended: bool) -> None:
        """Report the accuracy on the validation images; `ended` when the training goes no further, whatever is left."""
        self._metrics["validation_accuracy"] = accuracy
        if ended:
            self._steps = self._step
        self._report()

    def _report(self) -> None:
        self._reported = self._latest
        if self._on_progress is None:
            return
        spent = self._latest - self._begin - self._before
        counts = {
            "step": float(self._step),
            "epoch": float(self._epoch),
            "images_per_second": self.images_per_second,
            "seconds_left": spent * (self._steps - self._step) / self._step,
        }
        progress = TrainingProgress(
            self._step / self._steps, self._epoch, self._training.epochs, counts | self._metrics
        )
        self._on_progress(progress)

    def _read(self) -> None:
        """Take loss and accuracy since the last reading, and add the loss to the epoch's."""
        if self._recent_steps == 0:
            return
        total, hits, labelled = self._recent.tolist()
        if not math.isfinite(total):
            raise diverged("the loss", self._epoch, self._training)
        self._metrics["loss"] = total / self._recent_steps
        self._metrics["accuracy"] = hits / max(1.0, labelled)
        self._epoch_sum += total
        self._epoch_steps += self._recent_steps
        self._recent.zero_()
        self._recent_steps = 0


def diverged(what: str, epoch: int, training: Training) -> Diverged:
    """The failure of a training in whose `epoch` a number became infinite or none, with what to do about it."""
    clip = "" if training.gradient_clip is not None else ", or set `gradient_clip` (1.0, say)"
    return Diverged(
        f"{what} became infinite or not a number in epoch {epoch} of {training.epochs}; "
        f"lower `learning_rate` (it is {training.learning_rate:g}){clip}"
    )
