"""The training that a step carries: the one loop, with the loss and the masks that the step calls for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from modelpress.engine.batch_size import naming_batch
from modelpress.engine.checkpoints.snapshot import Stateful
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.distill.cache import Asking
from modelpress.engine.distill.hinton import HintonLoss, LabelLoss, frozen_teacher
from modelpress.engine.distill.renormalise import renormalise_inputs
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.loss import Loss
from modelpress.engine.network import Network
from modelpress.engine.prune.masks import Masks
from modelpress.engine.quantize.held import HeldGrids
from modelpress.engine.step import StepContext
from modelpress.engine.training import train
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import TrainingSummary
from modelpress.spec.training import Recovery, TeacherView, Training


def recover(
    network: Network,
    training: Training,
    context: StepContext,
    *,
    loss: Loss | None = None,
    masks: Masks | None = None,
    grids: HeldGrids | None = None,
    after_backward: Callable[[int, int], None] | None = None,
    after_step: Callable[[int, int], None] | None = None,
    complete_from: Callable[[int], int] | None = None,
    beside: Mapping[str, Stateful] | None = None,
    metrics: Callable[[], Mapping[str, float]] | None = None,
) -> TrainingSummary:
    """Train a step's network in place and leave it on the CPU.

    `loss` is what `choose_loss` gives unless the step has its own; `masks` (the network's own, by default) are held
    after each step of the training, behind `after_step`, and so are `grids` (the network's own, fitted, by default).
    `after_backward` finds every gradient, those of masked weights too. `complete_from(steps)` is the step from which on
    neither changes a mask any more; `beside` is what they remember otherwise, and `metrics` what they know of the
    progress. Goes on from the context's checkpoint where there is one. Raises IncompatibleSpec without data, Diverged,
    BatchTooLarge, and UnusableCheckpoint.
    """
    data = training_data(context)
    chosen = choose_loss(network, training, context) if loss is None else loss
    if isinstance(chosen, LabelLoss):
        data = data.labelled()  # nothing is learned from the others without a teacher
    network.module.to(context.device)
    held = Masks(network.module, network.masks) if masks is None else masks
    levels = HeldGrids(network.module, network.grids) if grids is None else grids

    def finish_backward(step: int, steps: int) -> None:
        levels.restore()
        levels.find_gradients(step, steps)
        if after_backward is not None:
            after_backward(step, steps)
        # Masked weights may have gradients all the same, which only matters where their norm is taken.
        if training.gradient_clip is not None:
            held.apply_to_gradients()

    def hold(step: int, steps: int) -> None:
        if after_step is not None:
            after_step(step, steps)
        held.apply()
        levels.follow(step, steps)

    @contextmanager
    def delivered() -> Iterator[None]:
        held.apply()
        levels.quantize()
        try:
            yield
        finally:
            levels.restore()

    def all_complete_from(steps: int) -> int:
        return max(levels.fixed_from(steps), 0 if complete_from is None else complete_from(steps))

    def report(progress: TrainingProgress) -> None:
        if context.on_progress is not None:
            if held.names:
                progress = replace(progress, metrics={**progress.metrics, "sparsity": held.sparsity})
            if metrics is not None:
                progress = replace(progress, metrics={**progress.metrics, **metrics()})
            context.on_progress(progress)

    with naming_batch(network, training, len(data.train_labels), context):
        summary = train(
            network.module,
            data,
            preprocessing_of(network, context),
            training,
            loss=chosen,
            seed=context.seed,
            device=context.device,
            before_forward=levels.quantize if levels.names else None,
            on_optimizer=held.follow,
            after_backward=finish_backward,
            after_step=hold,
            delivered=delivered,
            complete_from=all_complete_from,
            on_progress=report,
            ranks=context.ranks,
            checkpoints=context.checkpoints,
            beside={"masks": held, "grids": levels, **(beside or {})},
            learned=levels.parameters(),
            accumulation=context.accumulation,
        )
    network.masks = held.settle()
    network.grids = levels.settle()
    network.module.to(torch.device("cpu"))
    return summary


def choose_loss(network: Network, training: Training, context: StepContext) -> Loss:
    """The loss that a training of `network` asks for: the labels alone, or the original's softened outputs too."""
    if isinstance(training, Recovery) and training.teacher == "original":
        return HintonLoss(
            teacher_of(network, context),
            temperature=training.temperature,
            alpha=training.alpha,
            label_smoothing=training.label_smoothing,
            asking=asking_of(network, training, training.teacher_view, context),
        )
    return LabelLoss(training.label_smoothing)


def teacher_of(network: Network, context: StepContext) -> nn.Module:
    """The original, frozen, to be asked about the images that `network` is trained on, normalised for that one.

    An uploaded student may have been trained on pixels normalised in another way than the original was.
    """
    teacher = frozen_teacher(context.original.module, context.device)
    given, wanted = preprocessing_of(network, context), preprocessing_of(context.original, context)
    if given != wanted:
        renormalise_inputs(teacher, given, wanted, context.device)
    return teacher


def asking_of(network: Network, training: Training, view: TeacherView, context: StepContext) -> Asking:
    """How that teacher is asked: its answers are told apart by the images, which are also those not kept apart."""
    images = (preprocessing_of(network, context), training.validation)
    return Asking(view == "plain", context.answers, images)


def preprocessing_of(network: Network, context: StepContext) -> Preprocessing:
    """What is done to the pixels: what the model's owner said, else what the data's statistics suggest."""
    if network.description.preprocessing is not None:
        return network.description.preprocessing
    return training_data(context).statistics


def training_data(context: StepContext) -> ImageData:
    """The data to train on. Raises IncompatibleSpec when there is none."""
    if context.data is None:
        raise IncompatibleSpec(
            "this step trains, which needs a data set; give `dataset`, or drop the step's `training`"
        )
    return context.data
