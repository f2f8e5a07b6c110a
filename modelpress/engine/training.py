"""The one training loop.

Fine-tuning, distillation and gradual pruning differ by the loss and by what happens after a step, and in nothing else.
Images and labels lie on the device as tensors, batches are augmented there, and losses are read back about twice a
second only, so that the loop runs at the speed of its forward and backward passes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from modelpress.engine.arithmetic import choose_arithmetic, lay_out, logits_of
from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.spec.failure import Diverged, IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import TrainingSummary
from modelpress.spec.training import Training

_SECONDS_BETWEEN_REPORTS = 0.5
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Loss(Protocol):
    """What a training makes small."""

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of a batch: `outputs` float32 (B, K), `labels` (B,), `images` as the network got them."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands."""

    fraction: float  # of the training, 0..1
    epoch: int  # at work, from 1
    epochs: int
    # step, epoch, loss, accuracy (top-1 of the training batches), learning_rate, images_per_second, seconds_left;
    # sparsity where weights are held at zero
    metrics: dict[str, float]


def train(
    module: nn.Module,
    data: ImageData,
    preprocessing: Preprocessing,
    training: Training,
    *,
    loss: Loss,
    seed: int,
    device: torch.device,
    before_forward: Callable[[], None] | None = None,
    on_optimizer: Callable[[torch.optim.Optimizer], None] | None = None,
    after_backward: Callable[[int, int], None] | None = None,
    after_step: Callable[[int, int], None] | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingSummary:
    """Train `module` in place; it is on `device` and in evaluation mode afterwards.

    `before_forward()` is called before each batch, `after_backward(step, steps)` when its gradients are there,
    `after_step(step, steps)` after each update of the weights, with steps counted from 1; `on_optimizer` is given the
    optimiser before the first of them. The same seed on the same machine gives the same weights, unless the trial of
    `precision: auto` chooses otherwise because two kinds of arithmetic are equally fast there. Raises Diverged when the
    loss or a weight is infinite or not a number, and IncompatibleSpec for batches of one image with batch norm.
    """
    with _reproducible(seed, device):
        module.to(device).train()
        drop_single = any(isinstance(layer, _BATCH_NORMS) for layer in module.modules())
        generator = torch.Generator().manual_seed(seed)
        batches = Batches(
            data.train_images,
            data.train_labels,
            preprocessing,
            training.augmentation,
            batch_size=training.batch_size,
            generator=generator,
            device=device,
            drop_single=drop_single,
        )
        if drop_single and min(training.batch_size, len(data.train_labels)) == 1:
            raise IncompatibleSpec("batch normalisation cannot be trained on batches of one image; raise `batch_size`")
        steps = training.epochs * len(batches)
        arithmetic = choose_arithmetic(module, batches.sample(), precision=training.precision, steps=steps)
        batches.memory_format = arithmetic.memory_format
        lay_out(module, arithmetic.memory_format)
        optimizer = _optimizer(module, training, getattr(loss, "parameters", tuple)())
        if on_optimizer is not None:
            on_optimizer(optimizer)
        journal = _Journal(training, batches, optimizer, device, on_progress)

        # A loss that keeps what its teacher said of each image asks which images a batch has.
        follow = getattr(loss, "follow", None)
        step = 0
        for epoch in range(training.epochs):
            for images, labels in batches.epoch():
                rate = learning_rate(training, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                if before_forward is not None:
                    before_forward()
                if follow is not None:
                    follow(batches.indices, len(data.train_labels))
                with arithmetic.autocast(device):
                    outputs = logits_of(module(images)).float()
                    value = loss(outputs, labels, images)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(value)
                if after_backward is not None:
                    after_backward(step + 1, steps)
                if training.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), training.gradient_clip)
                optimizer.step()
                step += 1
                if after_step is not None:
                    after_step(step, steps)
                journal.note(value, outputs, labels, step, steps, epoch + 1)
            journal.close_epoch()
        # The loss of the last step was taken before its update.
        if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
            raise _diverged("a weight", training.epochs, training)
        lay_out(module, torch.contiguous_format)
        module.eval()
    return TrainingSummary(
        epochs=training.epochs,
        steps=steps,
        images_per_second=journal.images_per_second,
        precision=arithmetic.precision,
        channels_last=arithmetic.channels_last,
        device=str(device),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        final_loss=journal.epoch_loss,
    )


def learning_rate(training: Training, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    It never is zero, neither at the first step nor at the last one: both shall move the weights.
    """
    peak = training.learning_rate
    if training.warm_up > 0:
        peak *= min(1.0, (step + 1) / max(1, round(training.warm_up * steps)))
    if training.schedule == "constant":
        return peak
    if training.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * step / steps)) / 2
    if training.schedule == "step":
        passed = sum(step >= round(milestone * steps) for milestone in training.milestones)
        return float(peak * training.step_factor**passed)
    rising = max(1, round(steps / 10))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (steps - step) / (steps - rising + 1)


def _optimizer(module: nn.Module, training: Training, beside: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """For the module's weights and those that a loss learns beside them."""
    weights = [parameter for parameter in [*module.parameters(), *beside] if parameter.requires_grad]
    groups = [
        # Biases and the scales and shifts of norms are vectors; pulling them to zero only costs accuracy.
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
    return torch.optim.SGD(
        groups, lr=training.learning_rate, momentum=training.momentum, nesterov=training.momentum > 0, fused=True
    )


class _Journal:
    """Loss, speed and reports of a training. Losses are summed on the device and read when something is due."""

    def __init__(
        self,
        training: Training,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        self.epoch_loss = 0.0
        self.images_per_second = 0.0
        self._training = training
        self._batches = batches
        self._optimizer = optimizer
        self._on_progress = on_progress
        self._recent = torch.zeros((), device=device)  # sum of losses since the last reading
        self._recent_hits = torch.zeros((), dtype=torch.int64, device=device)  # right ones since then
        # those of them that have a label
        self._recent_labelled = torch.zeros((), dtype=torch.int64, device=device)
        self._recent_steps = 0
        self._epoch_sum = 0.0
        self._epoch_steps = 0
        self._images = 0
        self._epoch = 1
        self._begin = self._reported = time.perf_counter()

    def note(self, loss: Tensor, outputs: Tensor, labels: Tensor, step: int, steps: int, epoch: int) -> None:
        self._recent += loss.detach()
        self._recent_hits += (outputs.detach().argmax(1) == labels).sum()
        self._recent_steps += 1
        self._recent_labelled += (labels != UNLABELLED).sum()
        self._images += len(labels)
        self._epoch = epoch
        now = time.perf_counter()
        self.images_per_second = self._images / max(now - self._begin, 1e-9)
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            accuracy = self._recent_hits.item() / max(1, self._recent_labelled.item())
            mean = self._read()
            if self._on_progress is not None:
                metrics = {
                    "step": float(step),
                    "loss": mean,
                    "accuracy": accuracy,
                    "learning_rate": float(self._optimizer.param_groups[0]["lr"]),
                    "images_per_second": self.images_per_second,
                    "epoch": float(epoch),
                    "seconds_left": (now - self._begin) * (steps - step) / step,
                }
                self._on_progress(TrainingProgress(step / steps, epoch, self._training.epochs, metrics))

    def close_epoch(self) -> None:
        self._read()
        self.epoch_loss = self._epoch_sum / self._epoch_steps
        self._epoch_sum, self._epoch_steps = 0.0, 0

    def _read(self) -> float:
        """Mean loss since the last reading, added to the epoch's."""
        if self._recent_steps == 0:
            return 0.0
        total = self._recent.item()
        if not math.isfinite(total):
            raise _diverged("the loss", self._epoch, self._training)
        mean = total / self._recent_steps
        self._epoch_sum += total
        self._epoch_steps += self._recent_steps
        self._recent.zero_()
        self._recent_hits.zero_()
        self._recent_labelled.zero_()
        self._recent_steps = 0
        return mean


def _diverged(what: str, epoch: int, training: Training) -> Diverged:
    clip = "" if training.gradient_clip is not None else ", or set `gradient_clip` (1.0, say)"
    return Diverged(
        f"{what} became infinite or not a number in epoch {epoch} of {training.epochs}; "
        f"lower `learning_rate` (it is {training.learning_rate:g}){clip}"
    )


@contextmanager
def _reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Seed everything that draws, and forbid what differs from run to run; all of it is put back afterwards."""
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
