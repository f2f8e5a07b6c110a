"""Images kept apart from a training: the accuracy on them after each epoch, the best weights by it, an early stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from pydantic import Field
from torch import Tensor, nn

from modelpress.engine.averaging import restore, tensors_of
from modelpress.engine.checkpoints.snapshot import Snapshot
from modelpress.engine.journal import diverged
from modelpress.engine.measure import outputs_of
from modelpress.spec.config import Config
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Training


class _Validated(Config):
    waited: int = Field(ge=0, description="Epochs that count since the best one.")
    accuracy: float = Field(description="After the latest epoch.")
    best_accuracy: float | None
    best_epoch: int | None
    keeps_best: bool = Field(description="Whether the weights of the best epoch are there.")


class Validation:
    """The validation of one training, to be asked after each epoch.

    `images` are uint8 (V, C, H, W) with `labels` (V,). `delivered` is a context in which the module is as it would be
    handed on if the training ended now: masked, and on its grids.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Tensor,
        labels: Tensor,
        preprocessing: Preprocessing,
        training: Training,
        *,
        delivered: Callable[[], AbstractContextManager[None]],
        device: torch.device,
    ) -> None:
        self._module = module
        self._images = images
        self._labels = labels
        self._preprocessing = preprocessing
        self._training = training
        self._delivered = delivered
        self._device = device
        self._kept: dict[str, Tensor] = {}  # on the CPU: the device's memory is for the training
        self._waited = 0  # epochs that count since the best one
        self.accuracy = 0.0  # after the latest epoch, top-1
        self.best_accuracy: float | None = None
        self.best_epoch: int | None = None

    def close_epoch(self, epoch: int, *, counts: bool) -> None:
        """Measure the weights that are in place after `epoch` (from 1), and keep them if they are the best that count.

        Measured in fp32, as every accuracy of a report. Raises Diverged when an output is infinite or not a number.
        """
        with self._delivered():
            outputs = outputs_of(self._module, self._images, self._preprocessing, self._device)
        if not bool(outputs.isfinite().all()):
            raise diverged("an output", epoch, self._training)
        self.accuracy = float((outputs.argmax(1) == self._labels).double().mean())
        if not counts:
            return
        self._waited += 1
        if self.best_accuracy is None or self.accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch, self._waited = self.accuracy, epoch, 0
            if self._training.keep_best:
                # Not within `delivered`: weights held on grids stay latent ones, and settle when the others would.
                self._kept = {
                    name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors_of(self._module).items()
                }

    def snapshot(self) -> Snapshot:
        """The accuracies so far, and the best weights."""
        validated = _Validated(
            waited=self._waited,
            accuracy=self.accuracy,
            best_accuracy=self.best_accuracy,
            best_epoch=self.best_epoch,
            keeps_best=bool(self._kept),
        )
        return Snapshot(self._kept, validated.model_dump())

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from where the validation of a module like this one stood. Raises UnusableCheckpoint."""
        validated = snapshot.read(_Validated)
        self._waited, self.accuracy = validated.waited, validated.accuracy
        self.best_accuracy, self.best_epoch = validated.best_accuracy, validated.best_epoch
        if validated.keeps_best:
            self._kept = {
                name: snapshot.like(name, tensor.detach().cpu()) for name, tensor in tensors_of(self._module).items()
            }

    @property
    def exhausted(self) -> bool:
        """True when the training has gone on without a better epoch for as long as it has patience."""
        return self._training.patience is not None and self._waited >= self._training.patience

    def leave_best(self) -> bool:
        """Put the best weights into the module; False where none were to be kept."""
        if self._kept:
            restore(self._module, self._kept)
        return bool(self._kept)
