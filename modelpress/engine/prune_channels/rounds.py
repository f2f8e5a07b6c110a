"""Removal and training in turn: which part each round has, and what all of them were together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from modelpress.engine.journal import TrainingProgress
from modelpress.engine.step import StepContext
from modelpress.spec.report import TrainingSummary
from modelpress.spec.steps import PruneChannels
from modelpress.spec.training import Recovery


@dataclass(frozen=True)
class Round:
    """One removal, and the training behind it."""

    share: float  # of the whole that is gone when it is over
    training: Recovery | None
    epochs_before: int  # of the rounds that came first
    epochs: int  # of all rounds


def rounds_of(step: PruneChannels) -> Iterator[Round]:
    """Each round takes out the same share; the epochs are divided evenly, and the last round has what is over."""
    for number in range(step.rounds):
        share = step.target.removed * (number + 1) / step.rounds
        if step.training is None:
            yield Round(share, None, 0, 0)
            continue
        each = step.training.epochs // step.rounds
        last = number == step.rounds - 1
        epochs = step.training.epochs - each * number if last else each
        yield Round(share, step.training.model_copy(update={"epochs": epochs}), each * number, step.training.epochs)


def within(context: StepContext, this: Round, earlier: Sequence[TrainingSummary]) -> StepContext:
    """The context for the training of one round.

    Its progress goes on from where the rounds before it ended, and it draws images in an order of its own.
    """
    tell, training = context.on_progress, this.training
    seed = context.seed + len(earlier)
    if tell is None or training is None:
        return replace(context, seed=seed)
    steps = sum(summary.steps for summary in earlier)

    def report(progress: TrainingProgress) -> None:
        done = this.epochs_before + progress.fraction * training.epochs
        metrics = {**progress.metrics}
        if "step" in metrics:  # else a teacher answers first, and no step was made
            metrics["epoch"] += this.epochs_before
            metrics["step"] += steps
            # The rounds to come, at the speed of this one.
            left = training.epochs * (1 - progress.fraction)
            metrics["seconds_left"] *= (this.epochs - done) / left if left > 0 else 1
        tell(TrainingProgress(done / this.epochs, progress.epoch + this.epochs_before, this.epochs, metrics))

    return replace(context, seed=seed, on_progress=report)


def in_all(summaries: Sequence[TrainingSummary]) -> TrainingSummary | None:
    """The trainings of all rounds as one: sums, the speed over all, the rest as the last one had it; None for none.

    The best epoch is that of the last round, counted on from those before it, since only that one's weights go on.
    """
    if not summaries:
        return None
    steps = sum(summary.steps for summary in summaries)
    slowness = sum(summary.steps / max(summary.images_per_second, 1e-9) for summary in summaries)
    *earlier, last = summaries
    best = last.best_epoch
    return last.model_copy(
        update={
            "best_epoch": None if best is None else best + sum(summary.epochs for summary in earlier),
            "stopped_early": any(summary.stopped_early for summary in summaries),
            "epochs": sum(summary.epochs for summary in summaries),
            "steps": steps,
            "accumulation": max(summary.accumulation for summary in summaries),
            "images_per_second": steps / slowness,
        }
    )
