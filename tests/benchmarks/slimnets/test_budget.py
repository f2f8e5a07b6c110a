"""What runs cost, by hand, and the epochs that fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.slimnets.budget import (
    BudgetTooSmall,
    Job,
    Machine,
    Speed,
    cost,
    final_jobs,
    name_of,
    search_jobs,
    seconds,
    shares,
)
from benchmarks.slimnets.runs import Run, gradual, single, student
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.steps import Prune, Quantize
from modelpress.spec.training import Recovery

# Binary fractions, so that sums are exact.
ORIGINAL, SMALL = "vgg19_bn_cifar", "nin_cifar"
MACHINE = Machine(
    speeds={ORIGINAL: Speed(forward=0.25, training=1.0), SMALL: Speed(forward=0.125, training=0.5)},
    original=ORIGINAL,
    job_seconds=10.0,
    train_images=100,
    tuning_images=20,
)


def lasting(run: Run, epochs: int) -> Run:
    """The run with so many epochs declared of each step."""
    steps = tuple(
        step.model_copy(update={"training": step.training.model_copy(update={"epochs": epochs})})  # type: ignore[union-attr]
        for step in run.steps
    )
    return Run(run.name, run.table, run.title, {run.name: steps})


PRUNED = lasting(single("pruned", 1, "pruned", gradual(0.5)), 10)
ASKED_ONCE = student(SMALL, taught=True)
ALWAYS_ASKED = ASKED_ONCE.model_copy(update={"teacher_view": "augmented"})
TAUGHT = lasting(single("taught", 3, "taught", ALWAYS_ASKED), 4)
LABELS = lasting(single("labels", 3, "labels", student(SMALL, taught=False)), 4)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (PRUNED, 10 + 100 * 10 * 1.0),
        (LABELS, 10 + 100 * 4 * 0.5),
        # The teacher's pass over images that change with every epoch, or over them and their mirror images.
        (TAUGHT, 10 + 100 * 4 * (0.5 + 0.25)),
        (lasting(single("once", 3, "once", ASKED_ONCE), 4), 10 + 100 * (4 * 0.5 + 2 * 0.25)),
    ],
)
def test_a_run_costs_its_images_times_its_epochs(run: Run, expected: float) -> None:
    assert cost([run], 1.0, MACHINE, 28) == expected


def test_kept_answers_of_a_teacher_are_computed_once_and_later_steps_train_the_student() -> None:
    plain = Recovery(epochs=6, teacher="original")
    steps = (*TAUGHT.steps, Prune(sparsity=0.5, training=plain), Quantize(bits=4))
    job = Job("job", "tuning", 0, steps)
    # 80 images: 4 epochs with the teacher each time, then 6 with it once, then nothing.
    assert seconds([job], MACHINE) == 10 + 80 * (4 * 0.75 + 6 * 0.5 + 0.25)


def test_what_two_jobs_begin_with_is_counted_once() -> None:
    longer = Job("longer", "final", 0, (*TAUGHT.steps, Prune(sparsity=0.5, training=Recovery(epochs=1))))
    shorter, other_seed = (Job("shorter", "final", seed, TAUGHT.steps) for seed in (0, 1))
    distillation, pruning = 100 * 4 * 0.75, 100 * 0.5
    assert seconds([longer, shorter], MACHINE) == 20 + distillation + pruning
    assert seconds([longer, other_seed], MACHINE) == 20 + 2 * distillation + pruning


def test_a_choice_costs_its_candidates_at_half_the_epochs_and_the_dearest_of_them() -> None:
    choice = Run("choice", 3, "choice", {"taught": TAUGHT.steps, "labels": LABELS.steps}, seeds=(0, 1))
    searched = 20 + 80 * 2 * 0.75 + 80 * 2 * 0.5
    assert cost([choice], 1.0, MACHINE, 28) == searched + 2 * (10 + 300)


def test_the_largest_share_that_fits_is_taken() -> None:
    # One pot: 10 s for the job, then 100 s an epoch.
    budgets = {1010: 10, 5000: 10, 1009: 9, 310: 3, 309: 2, 110: 1, 109: 0.95, 35: 0.25, 34: 0.2, 20: 0.1}
    for limit, epochs in budgets.items():
        share = shares([PRUNED], limit / 60 + 1e-9, MACHINE, 28)[1]
        assert cost([PRUNED], share, MACHINE, 28) == pytest.approx(10 + 100 * epochs)


def test_a_run_may_get_more_epochs_than_others_of_its_table_and_no_more_than_all() -> None:
    quick = replace(LABELS, epoch_weight=3.0)
    assert [cost([quick], share, MACHINE, 28) for share in (0.25, 0.5)] == [10 + 50 * 3, 10 + 50 * 4]
    assert search_jobs(replace(quick, candidates={"a": LABELS.steps, "b": TAUGHT.steps}), 0.25)[0].steps[
        0
    ].training == (
        LABELS.steps[0].training.model_copy(update={"epochs": 1})  # type: ignore[union-attr]
    )


@pytest.mark.parametrize(("share", "rate"), [(0.05, 0.005), (0.1, 0.02), (1.0, 0.02)])
def test_a_run_may_take_less_of_the_learning_rate_where_less_than_an_epoch_is_left(share: float, rate: float) -> None:
    (job,) = final_jobs(replace(PRUNED, part_rate=0.25), "pruned", share, 28)
    assert job.steps[0].training.learning_rate == rate  # type: ignore[union-attr]


def test_pots_get_a_tenth_of_an_epoch_of_everything_and_a_part_of_the_rest() -> None:
    # 20 s and 17.5 s at least; of 600 s more, 0.2 / (0.2 + 0.3) and 0.3 / (0.2 + 0.3).
    found = shares([PRUNED, TAUGHT], (37.5 + 600) / 60 + 1e-9, MACHINE, 28)
    assert found.keys() == {1, 3, 5}
    assert int(10 * found[1] + 1e-9) == 2  # 20 + 240 s
    assert found[3] == found[5] == 1  # 310 s fit into 17.5 + 360 s


def test_no_limit_is_all_and_nothing_is_one_epoch_each() -> None:
    assert shares([PRUNED, TAUGHT], None, None, 28) == {1: 1.0, 3: 1.0, 5: 1.0}
    assert shares([PRUNED], 0, None, 28) == {1: 0.0}
    assert cost([PRUNED], 0.0, MACHINE, 28) == 110


def test_a_budget_below_a_tenth_of_an_epoch_says_what_is_needed() -> None:
    with pytest.raises(
        BudgetTooSmall, match=r"0\.1 epochs of everything take about 1 minutes .* more than the 0\.6 given"
    ):
        shares([PRUNED, TAUGHT], 0.6, MACHINE, 28)


def test_a_network_is_told_by_its_arguments() -> None:
    assert name_of(ArchitectureRef(architecture="nin_cifar", arguments={"num_classes": 10})) == "nin_cifar"
    thin = ArchitectureRef(architecture="resnet20_cifar", arguments={"width": 0.5})
    assert name_of(thin) == 'resnet20_cifar {"width": 0.5}'
