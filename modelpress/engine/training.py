"""The one training loop.

Fine-tuning, distillation and gradual pruning differ by the loss and by what happens after a step, and in nothing else.
Images and labels lie on the device as tensors, batches are augmented there, and losses are read back about twice a
second only, so that the loop runs at the speed of its forward and backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from modelpress.engine.arithmetic import choose_arithmetic, lay_out, logits_of
from modelpress.engine.averaging import WeightAverage
from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.journal import Journal, TrainingProgress, diverged
from modelpress.engine.learning_rate import learning_rate
from modelpress.engine.loss import Loss
from modelpress.engine.validation import Validation
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import TrainingSummary
from modelpress.spec.training import Training

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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
    delivered: Callable[[], AbstractContextManager[None]] = nullcontext,
    complete_from: Callable[[int], int] | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingSummary:
    """Train `module` in place; it is on `device` and in evaluation mode afterwards.

    `before_forward()` is called before each batch, `after_backward(step, steps)` when its gradients are there,
    `after_step(step, steps)` after each update of the weights, with steps counted from 1; `on_optimizer` is given the
    optimiser before the first of them. What it leaves are the last weights, their average (`training.ema`), or those of
    the best epoch; its caller holds masks and grids on them once more. For the validation, `delivered()` is a context
    in which the module is as if that had been done, and `complete_from(steps)` the step from which on masks and grids
    are final, before which no epoch can be the best.

    The same seed on the same machine gives the same weights, unless the trial of `precision: auto` chooses otherwise
    because two kinds of arithmetic are equally fast there. Raises Diverged when the loss or a weight is infinite or not
    a number, and IncompatibleSpec for batches of one image with batch norm or when no image can be kept apart.
    """
    with _reproducible(seed, device):
        module.to(device).train()
        validation = None
        if training.validation > 0:
            data, apart, their_labels = data.keep_apart(training.validation, seed)
            validation = Validation(
                module, apart, their_labels, preprocessing, training, delivered=delivered, device=device
            )
        drop_single = any(isinstance(layer, _BATCH_NORMS) for layer in module.modules())
        batches = Batches(
            data.train_images,
            data.train_labels,
            preprocessing,
            training.augmentation,
            batch_size=training.batch_size,
            generator=torch.Generator().manual_seed(seed),
            device=device,
            drop_single=drop_single,
            classes=len(data.classes),
        )
        if drop_single and min(training.batch_size, len(data.train_labels)) == 1:
            raise IncompatibleSpec("batch normalisation cannot be trained on batches of one image; raise `batch_size`")
        steps = training.epochs * len(batches)
        arithmetic = choose_arithmetic(module, batches.sample(), precision=training.precision, steps=steps)
        batches.memory_format = arithmetic.memory_format
        lay_out(module, arithmetic.memory_format)
        optimizer = _optimizer(module, training, loss.parameters())
        if on_optimizer is not None:
            on_optimizer(optimizer)
        average = WeightAverage(module, training.ema) if training.ema is not None else None
        journal = Journal(training, steps, device, on_progress)

        step = 0
        for epoch in range(1, training.epochs + 1):
            for images, labels in batches.epoch():
                rate = learning_rate(training, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                if before_forward is not None:
                    before_forward()
                loss.follow(batches.indices, len(data.train_labels))
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
                if average is not None:
                    average.update()
                journal.note(value, outputs, labels, epoch=epoch, learning_rate=rate)
            journal.close_epoch()
            if validation is not None:
                complete = complete_from is None or step >= complete_from(steps)
                with journal.aside(), average.in_place() if average is not None else nullcontext():
                    validation.close_epoch(epoch, counts=complete)
                journal.note_validation(validation.accuracy, ended=validation.exhausted)
                if validation.exhausted:
                    break
        # The loss of the last step was taken before its update.
        if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
            raise diverged("a weight", epoch, training)
        if (validation is None or not validation.leave_best()) and average is not None:
            average.leave()
        lay_out(module, torch.contiguous_format)
        module.eval()
    return TrainingSummary(
        epochs=epoch,
        steps=step,
        images_per_second=journal.images_per_second,
        precision=arithmetic.precision,
        channels_last=arithmetic.channels_last,
        device=str(device),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        final_loss=journal.epoch_loss,
        stopped_early=epoch < training.epochs,
        best_epoch=validation.best_epoch if validation is not None else None,
        best_validation_accuracy=validation.best_accuracy if validation is not None else None,
    )


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
