from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from modelpress.engine.journal import TrainingProgress
from modelpress.engine.loss import Loss
from modelpress.engine.training import train
from modelpress.engine.validation import Validation
from modelpress.spec.failure import Diverged, IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import TrainingSummary
from modelpress.spec.training import Training
from tests.support.image_data import noise

CPU = torch.device("cpu")
# Accuracies of a network that always says one class: 0.3, 0.5 and 0.2.
LABELS = torch.tensor([0] * 3 + [1] * 5 + [2] * 2)


class Constant(nn.Module):
    """Says the same class of every image."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(3))

    def say(self, label: int) -> None:
        with torch.no_grad():
            self.scores.zero_()
            self.scores[label] = 1.0

    @property
    def said(self) -> int:
        return int(self.scores.argmax())

    def forward(self, images: Tensor) -> Tensor:
        return self.scores.expand(len(images), 3)


def validation(module: nn.Module, **options: object) -> Validation:
    return Validation(
        module,
        torch.zeros(10, 1, 2, 2, dtype=torch.uint8),
        LABELS,
        Preprocessing(mean=(0.5,), std=(1.0,)),
        Training.model_validate({"validation": 0.1, **options}),
        delivered=nullcontext,
        device=CPU,
    )


def test_the_best_epoch_that_counts_is_kept():
    module = Constant()
    judge = validation(module, keep_best=True)
    for epoch, (label, counts, accuracy) in enumerate(
        [(1, False, 0.5), (2, True, 0.2), (0, True, 0.3), (2, True, 0.2), (0, True, 0.3)], start=1
    ):
        module.say(label)
        judge.close_epoch(epoch, counts=counts)
        assert judge.accuracy == pytest.approx(accuracy)
    assert (judge.best_epoch, judge.best_accuracy) == (3, pytest.approx(0.3))
    module.say(2)
    assert judge.leave_best()
    assert module.said == 0
    assert not judge.exhausted


def test_patience_counts_epochs_without_a_better_one():
    module = Constant()
    judge = validation(module, patience=2)
    seen = []
    for epoch, (label, counts) in enumerate(
        [(2, False), (2, False), (2, False), (2, True), (2, True), (0, True), (2, True), (0, True)], start=1
    ):
        module.say(label)
        judge.close_epoch(epoch, counts=counts)
        seen.append(judge.exhausted)
    assert seen == [False] * 7 + [True]
    assert not judge.leave_best()
    assert module.said == 0  # the last one


def test_what_is_measured_is_what_would_be_delivered():
    module = Constant()
    module.say(0)

    @contextmanager
    def delivered() -> Iterator[None]:
        module.say(1)
        yield
        module.say(2)

    judge = validation(module, keep_best=True)
    judge._delivered = delivered
    judge.close_epoch(1, counts=True)
    assert judge.accuracy == 0.5
    module.say(0)
    judge.leave_best()
    assert module.said == 2


def test_outputs_that_are_no_numbers_are_a_divergence():
    module = Constant()
    with torch.no_grad():
        module.scores.fill_(math.nan)
    with pytest.raises(Diverged, match="an output became infinite or not a number in epoch 3 of 5; lower"):
        validation(module).close_epoch(3, counts=True)


class Nothing(Loss):
    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        return outputs.sum() * 0


def trained(
    said: list[int], complete_from: Callable[[int], int] | None = None, **options: object
) -> tuple[int, TrainingSummary, list[TrainingProgress]]:
    """What a network says in the end that says `said` epoch by epoch, whatever it learns."""
    module = Constant()
    # Of each class 10; relabelled to 6, 12 and 12, of which 2, 3 and 3 are kept apart.
    data = noise(30)
    data.train_labels[data.train_labels == 0] = torch.tensor([0] * 6 + [1, 1, 2, 2])
    seen: list[TrainingProgress] = []
    training = Training.model_validate(
        {"epochs": len(said), "batch_size": 8, "weight_decay": 0.0, "validation": 0.25, **options}
    )
    summary = train(
        module,
        data,
        data.statistics,
        training,
        loss=Nothing(),
        seed=0,
        device=CPU,
        after_step=lambda step, steps: module.say(said[(step - 1) * len(said) // steps]),
        complete_from=complete_from,
        on_progress=seen.append,
    )
    return module.said, summary, seen


# Accuracies of saying class 0, and of saying one of the others.
FEW, MANY = 0.25, 0.375


def test_every_epoch_tells_its_accuracy():
    said, summary, seen = trained([1, 0, 2])
    assert said == 2
    assert [progress.metrics["validation_accuracy"] for progress in seen] == [MANY, FEW, MANY]
    assert [progress.fraction for progress in seen] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [progress.metrics["epoch"] for progress in seen] == [1, 2, 3]
    assert {"loss", "accuracy", "learning_rate", "seconds_left", "images_per_second"} <= set(seen[0].metrics)
    assert (summary.best_epoch, summary.best_validation_accuracy) == (1, MANY)
    assert (summary.epochs, summary.steps, summary.stopped_early) == (3, 9, False)


def test_the_best_epoch_is_left():
    said, summary, _ = trained([0, 1, 0], keep_best=True)
    assert (said, summary.best_epoch) == (1, 2)


def test_it_stops_early_and_is_done_then():
    said, summary, seen = trained([0, 1, 0, 2, 1, 1, 1], patience=2)
    assert said == 2  # without `keep_best` the last weights
    assert (summary.epochs, summary.steps, summary.stopped_early, summary.best_epoch) == (4, 12, True, 2)
    assert [progress.fraction for progress in seen] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 1])
    assert seen[-1].metrics["seconds_left"] == 0


@pytest.mark.parametrize(("first", "best"), [(1, 1), (3, 1), (4, 3), (6, 3), (12, 4)])
def test_epochs_that_end_before_masks_and_grids_are_final_do_not_count(first: int, best: int):
    said, summary, _ = trained([1, 0, 2, 0], lambda steps: first, keep_best=True)
    assert summary.best_epoch == best
    assert said == [1, 0, 2, 0][best - 1]


def test_the_average_is_what_is_measured_and_left():
    """The ninth step, of decay 10/19, says another class, but the average goes on saying what the others said."""
    said, summary, seen = trained([1] * 8 + [0], ema=0.999, batch_size=22)
    assert said == 1
    assert summary.steps == 9
    assert [progress.metrics["validation_accuracy"] for progress in seen] == [MANY] * 9


def test_held_out_images_have_no_say():
    results = []
    for seed in (1, 2):
        data, other = noise(30), noise(30, heldout=20, seed=seed)
        object.__setattr__(data, "heldout_images", other.heldout_images)
        object.__setattr__(data, "heldout_labels", other.heldout_labels)
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        training = Training(epochs=3, batch_size=8, validation=0.2, keep_best=True, patience=1)
        summary = train(module, data, data.statistics, training, loss=Nothing(), seed=0, device=CPU)
        results.append((module[1].weight.detach().clone(), summary.best_validation_accuracy))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_data_without_two_images_of_any_class_cannot_be_validated_on():
    data = noise(3)
    with pytest.raises(IncompatibleSpec, match="drop `validation`, or add images"):
        train(Constant(), data, data.statistics, Training(validation=0.1), loss=Nothing(), seed=0, device=CPU)


@pytest.mark.parametrize("asked", [{"keep_best": True}, {"patience": 3}])
def test_nothing_goes_by_a_validation_that_there_is_not(asked: dict[str, object]):
    with pytest.raises(ValidationError, match=f"`{next(iter(asked))}` goes by the validation accuracy"):
        Training.model_validate(asked)
