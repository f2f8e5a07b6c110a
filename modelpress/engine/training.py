"""The one training loop.

Fine-tuning, distillation and gradual pruning differ by the loss and by what happens after a step, and in nothing else.
Images and labels lie on the device as tensors, batches are augmented there, and losses are read back about twice a
second only, so that the loop runs at the speed of its forward and backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from modelpress.engine.accumulation import accumulate
from modelpress.engine.arithmetic import Arithmetic, choose_arithmetic, lay_out
from modelpress.engine.averaging import WeightAverage
from modelpress.engine.checkpoints.snapshot import Stateful, part_of
from modelpress.engine.checkpoints.step import NO_CHECKPOINTS, StepCheckpoints
from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.data.resizing import check_takes_smaller, resize
from modelpress.engine.journal import Journal, TrainingProgress, diverged
from modelpress.engine.learning_rate import learning_rate
from modelpress.engine.loss import Loss
from modelpress.engine.ranks.assignment import Assignment
from modelpress.engine.ranks.leader import ALONE, Ranks
from modelpress.engine.ranks.share import WHOLE, Share
from modelpress.engine.training_state import Position, TrainingState
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
    ranks: Ranks = ALONE,
    checkpoints: StepCheckpoints = NO_CHECKPOINTS,
    beside: Mapping[str, Stateful] | None = None,
    learned: Iterable[nn.Parameter] = (),
    accumulation: int = 1,
) -> TrainingSummary:
    """Train `module` in place; it is on `device` and in evaluation mode afterwards.

    `before_forward()` is called before each batch, `after_backward(step, steps)` when its gradients are there,
    `after_step(step, steps)` after each update of the weights, with steps counted from 1; `on_optimizer` is given the
    optimiser before the first of them. What it leaves are the last weights, their average (`training.ema`), or those of
    the best epoch; its caller holds masks and grids on them once more. For the validation, `delivered()` is a context
    in which the module is as if that had been done, and `complete_from(steps)` the step from which on masks and grids
    are final, before which no epoch can be the best. The images of each batch are dealt out over `ranks`; all else is
    done, and decided, in this process.

    The same seed on as many ranks of the same machine gives the same weights, unless the trial of `precision: auto`
    chooses otherwise because two kinds of arithmetic are equally fast there. So does a training that goes on from
    where `checkpoints` say that another process left it, if that was alone: what several ranks remember of a teacher's
    answers is computed anew, in other batches. `beside` are those behind the callbacks that remember something;
    `learned` is what `after_backward` gives gradients to besides the weights.

    Each batch is computed in `accumulation` parts, or in as many as the training was that is gone on with, where that
    is more.

    Raises Diverged when the loss or a weight is infinite or not a number, IncompatibleSpec for batches of one image
    with batch norm or when no image can be kept apart, and UnusableCheckpoint.
    """
    with reproducible(seed, device):
        module.to(device).train()
        validation = None
        if training.validation > 0:
            data, apart, their_labels = data.keep_apart(training.validation)
            validation = Validation(
                module, apart, their_labels, preprocessing, training, delivered=delivered, device=device
            )
        least = _least_images(module)
        batches = draw_batches(
            data.train_images,
            data.train_labels,
            preprocessing,
            training,
            classes=len(data.classes),
            seed=seed,
            device=device,
            share=Share(0, ranks.size, least),
        )
        if training.largest_batch(len(data.train_labels)) == 1 < least:
            raise IncompatibleSpec(
                f"batch normalisation cannot be trained on batches of one image; {_more_images(training, data)}"
            )
        steps = training.epochs * len(batches)
        sample = batches.sample()
        check_takes_smaller(module, sample, training)
        saved = checkpoints.take_saved()
        if saved is None:
            sample = sample[: max(least, len(sample) // accumulation)]
            arithmetic = choose_arithmetic(
                module, sample, precision=training.precision, steps=steps, teachers=tuple(loss.teachers())
            )
        else:
            arithmetic = Arithmetic.of(part_of(saved, "arithmetic"))
        arithmetic = replace(arithmetic, accumulation=max(arithmetic.accumulation, accumulation))
        batches.memory_format = arithmetic.memory_format
        lay_out(module, arithmetic.memory_format)
        optimizer = _optimizer(module, training, [*loss.parameters(), *learned])
        if on_optimizer is not None:
            on_optimizer(optimizer)
        average = WeightAverage(module, training.ema) if training.ema is not None else None
        journal = Journal(training, steps, device, on_progress)
        parts: dict[str, Stateful] = {"batches": batches, "loss": loss, "journal": journal, **(beside or {})}
        if average is not None:
            parts["average"] = average
        if validation is not None:
            parts["validation"] = validation
        state = TrainingState(module, optimizer, arithmetic, device, parts)
        start = Position() if saved is None else state.resume(saved)
        del saved  # as large as all else together
        everything = batches.everything()
        # In fewer epochs than images have forms a teacher is not asked about each.
        if everything is not None and training.images_seen(len(data.train_labels)) >= everything.count:
            with journal.aside():
                for share in loss.prepare(everything, arithmetic):
                    journal.note_answers(share)
                    if checkpoints.due():
                        checkpoints.keep(state.snapshot(start))

        threads = max(1, torch.get_num_threads() // ranks.size)
        assignment = Assignment(
            module,
            loss,
            preprocessing,
            training,
            arithmetic,
            len(data.classes),
            seed,
            least,
            threads,
            batches.snapshot(),
            start.step,
        )
        crew = ranks.enlist(assignment, data.train_images, data.train_labels)
        step = start.step
        for epoch in range(start.epoch, training.epochs + 1):
            for images, labels in batches.epoch():
                images = resize(images, training, step, steps)
                rate = learning_rate(training, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                if before_forward is not None:
                    before_forward()
                crew.begin_step()
                optimizer.zero_grad(set_to_none=True)
                figures = accumulate(module, images, labels, loss, arithmetic, batches.origin, least, batches.labelled)
                figures = crew.combine(figures, len(labels) / batches.drawn)
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
                journal.note(figures, batches.drawn, epoch=epoch, learning_rate=rate)
                if checkpoints.due() and step % len(batches) != 0:
                    with journal.aside():
                        checkpoints.keep(state.snapshot(Position(epoch=epoch, step=step)))
            journal.close_epoch()
            if validation is not None:
                complete = complete_from is None or step >= complete_from(steps)
                with journal.aside(), average.in_place() if average is not None else nullcontext():
                    validation.close_epoch(epoch, counts=complete)
                journal.note_validation(validation.accuracy, ended=validation.exhausted)
                if validation.exhausted:
                    break
            if checkpoints.due() and epoch < training.epochs:
                with journal.aside():
                    checkpoints.keep(state.snapshot(Position(epoch=epoch + 1, step=step)))
        crew.finish()
        # The loss of the last step was taken before its update.
        if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
            raise diverged("a weight", epoch, training)
        if (validation is None or not validation.leave_best()) and average is not None:
            average.leave()
        lay_out(module, torch.contiguous_format)
        module.eval()
    return TrainingSummary(
        epochs=epoch,
        epoch_share=training.epoch_share,
        steps=step,
        images_per_second=journal.images_per_second,
        precision=arithmetic.precision,
        channels_last=arithmetic.channels_last,
        accumulation=arithmetic.accumulation,
        device=str(device),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        processes=ranks.size,
        final_loss=journal.epoch_loss,
        stopped_early=epoch < training.epochs,
        best_epoch=validation.best_epoch if validation is not None else None,
        best_validation_accuracy=validation.best_accuracy if validation is not None else None,
    )


def draw_batches(
    images: Tensor,
    labels: Tensor,
    preprocessing: Preprocessing,
    training: Training,
    *,
    classes: int,
    seed: int,
    device: torch.device,
    share: Share = WHOLE,
) -> Batches:
    """The batches of a training, which `seed` alone decides: one rank's `share` of each."""
    return Batches(
        images,
        labels,
        preprocessing,
        training.augmentation,
        batch_size=training.batch_size,
        epoch_images=training.images_of_epoch(len(labels)),
        generator=torch.Generator().manual_seed(seed),
        device=device,
        drop_single=share.least > 1,
        classes=classes,
        share=share,
    )


def _more_images(training: Training, data: ImageData) -> str:
    """How batches of one image become larger."""
    if training.batch_size == 1:
        return "raise `batch_size`"
    if len(data.train_labels) > 1:
        return "an epoch has no more: raise `epoch_share`"
    return "there is no other to train on: give more images, or labels for more of them"


def _least_images(module: nn.Module) -> int:
    """Images that a forward pass in training mode needs: a batch norm must have something to average."""
    return 2 if any(isinstance(layer, _BATCH_NORMS) for layer in module.modules()) else 1


def _optimizer(module: nn.Module, training: Training, beside: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """For the module's weights and what is learned beside them."""
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
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
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
