"""The declarations: every job of every scale is one that the service takes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.slimnets.budget import final_jobs, scaled, search_jobs
from benchmarks.slimnets.finished import dumped, key
from benchmarks.slimnets.recipes import RECIPES, ablations, coded
from benchmarks.slimnets.runs import SIDE_BY_SIDE, TABLES, convolutions, paper_ranks, student
from benchmarks.slimnets.scale import SCALES
from benchmarks.slimnets.selection import all_runs, runs_of
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef, unknown_arguments
from modelpress.spec.job import JobSpec
from modelpress.spec.steps import Distill, Factorize, Prune, Quantize


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("share", [0.0, 0.013, 1.0])
def test_every_job_is_valid_and_has_files_of_its_own(scale, share: float) -> None:  # type: ignore[no-untyped-def]
    keys = []
    for run in all_runs(scale):
        jobs = search_jobs(run, share)
        for chosen in run.candidates:
            jobs += (
                final_jobs(run, chosen, share, scale.original_epochs) if chosen == next(iter(run.candidates)) else []
            )
            for part in ablations(run, chosen):
                parts = final_jobs(part, part.name, share, scale.original_epochs)
                jobs += parts if chosen == next(iter(run.candidates)) else []
                assert all(
                    JobSpec.model_validate({"model": "m", "dataset": "d", "steps": dumped(one)}) for one in parts
                )
        for job in jobs:
            JobSpec.model_validate({"model": "m", "dataset": "d", "seed": job.seed, "steps": dumped(job)})
            for step in job.steps:
                if isinstance(step, Distill) and isinstance(step.student, ArchitectureRef):
                    entry = ARCHITECTURES[step.student.architecture]
                    assert not unknown_arguments(entry, step.student.arguments)[0]
        keys += [key(job) for job in jobs]
    assert len(set(keys)) == len(keys)


def test_the_tables_have_what_they_are_to_compare() -> None:
    runs = runs_of(SCALES["full"])
    names = {number: [run.name for run in runs if run.table == number] for number in TABLES}
    assert {number: len(inside) for number, inside in names.items()} == {
        0: 0,
        1: 10,
        2: 4,
        3: 12,
        4: 0,
        5: 3,
        6: 0,
        7: 6,
    }
    # Who has a GPU has our recipes in full, and not what two cores reach.
    on_a_gpu = runs_of(SCALES["gpu"])
    assert [run for run in on_a_gpu if run.table < 6] == [run for run in runs if run.table < 6]
    assert [run.name for run in on_a_gpu if run.table >= 6] == ["smallest", "fastest", "lossless"]
    assert len({run.name for run in runs}) == len(runs)
    assert set(SIDE_BY_SIDE.values()) <= {run.name for run in [*runs, *on_a_gpu]}
    sparsities = sorted(
        step.sparsity for run in runs if run.table == 1 for step in run.steps if isinstance(step, Prune)
    )
    assert sparsities == [0.4, 0.4, 0.75, 0.75, 0.875, 0.875, 0.95, 0.95, 0.98, 0.98]
    norms = [next(iter(run.candidates.values()))[0] for run in runs if run.table == 2]
    assert [step.batch_norm for step in norms if isinstance(step, Factorize)] == [True, False, True, False]
    seeds = {run.name: run.seeds for run in [*runs, *on_a_gpu]}
    assert seeds["smallest"] == seeds["two-cores"] == (0, 1, 2)
    # Distilled students learn from the original, the others do not ask it.
    alphas = {
        step.alpha for run in runs if run.name.endswith("-labels") for step in run.steps if isinstance(step, Distill)
    }
    assert alphas == {0.0}
    # What table 5 begins with is a run of table 3, so that it is done once.
    by_name = {run.name: run for run in runs}
    assert by_name["nin-pruned-75"].steps[:1] == by_name["nin-distilled"].steps


def test_the_ranks_are_those_of_the_convolutions() -> None:
    network = build(ArchitectureRef(architecture="vgg19_bn_cifar", arguments={"width": 0.01}))
    assert convolutions() == tuple(n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d))
    assert paper_ranks().values["features.0"] == 5
    assert list(paper_ranks(0.25).values.values())[:4] == [1, 6, 12, 12]


def test_short_runs_are_few_without_a_search_or_ablations() -> None:
    runs = runs_of(SCALES["short"])
    assert {run.table for run in runs} == {1, 2, 3, 5, 6}
    assert len(runs) <= 8
    assert all(len(run.candidates) == len(run.seeds) == 1 and not run.ablated for run in runs)
    assert [run.name for run in runs_of(SCALES["full"], tables=[3], only=["nin-distilled", "smallest"])] == [
        "nin-distilled"
    ]


def test_an_ablation_leaves_out_one_thing() -> None:
    smallest, fastest, lossless, two_cores, *two_cores_others = RECIPES
    chosen = next(iter(smallest.candidates))
    distill, prune, quantize = smallest.candidates[chosen]
    parts = {part.name: part for part in ablations(smallest, chosen)}
    assert list(parts) == [
        "smallest-without-prune",
        "smallest-without-quantize",
        "smallest-student",
        "smallest-labels",
        "smallest-student-labels",
    ]
    assert parts["smallest-without-prune"].steps == (distill, quantize)
    assert parts["smallest-without-quantize"].steps == (distill, prune)
    assert parts["smallest-student"].steps == (distill,)
    untaught = parts["smallest-labels"].steps
    assert isinstance(untaught[0], Distill)
    assert untaught[0].alpha == 0
    assert [step.training.teacher for step in untaught[1:]] == [None, None]  # type: ignore[union-attr]
    # Trained for as long as the original, whatever the budget.
    alone = parts["smallest-student-labels"]
    (job,) = final_jobs(alone, alone.name, 0.01, 28)
    assert job.steps[0].training is not None
    assert job.steps[0].training.epochs == 28
    assert [part.name for part in ablations(lossless, "VGG-19, 90% gone, 4 bits")] == [
        "lossless-without-prune",
        "lossless-without-quantize",
        "lossless-labels",
    ]
    # Its student has no teacher, and its epochs are what is declared, whatever the budget.
    parts = {part.name: part for part in ablations(two_cores, next(iter(two_cores.candidates)))}
    assert list(parts) == ["two-cores-without-quantize", "two-cores-without-rate", "two-cores-student-labels"]
    student, quantize = two_cores.steps
    assert isinstance(student, Distill)
    unrated = parts["two-cores-without-rate"]
    assert unrated.steps == (student, quantize.model_copy(update={"rate": 0.0}))
    assert isinstance(quantize, Quantize)
    assert quantize.rate > 0
    assert [job.steps for job in final_jobs(unrated, unrated.name, 0.01, 28)] == [unrated.steps]
    # The student alone for as long as the original is not the student before the other steps.
    epochs = []
    for name in ("two-cores-without-quantize", "two-cores-student-labels"):
        (job,) = final_jobs(parts[name], name, 0.01, 28)
        epochs += [step.training.epochs for step in job.steps if step.training is not None]
    assert epochs == [student.training.epochs, 28]
    assert [ablations(run, next(iter(run.candidates))) for run in two_cores_others] == [[], [], [], [], []]
    # A step without which nothing is left is no ablation.
    assert [part.name for part in ablations(fastest, next(iter(fastest.candidates)))] == ["fastest-labels"]


def test_epochs_are_scaled_and_less_than_one_is_a_part_of_the_images() -> None:
    steps = (student("nin_cifar", taught=True),)
    shares = (0.0, 1e-9, 0.0014, 0.004, 0.005, 0.0099, 0.01, 0.29, 1.0)
    trainings = [scaled(steps, share)[0].training for share in shares]
    assert [(training.epochs, training.epoch_share) for training in trainings if training is not None] == [
        (1, 1.0),
        (1, 0.1),
        (1, 0.25),
        (1, 0.8),
        (1, 1.0),
        (1, 1.0),
        (2, 1.0),
        (58, 1.0),
        (200, 1.0),
    ]


def test_a_rate_comes_with_all_that_makes_a_file_small() -> None:
    plain, rated = coded(4), coded(4, rate=0.1)
    assert (plain.rate, plain.step_sizes, plain.fold_norms, plain.vectors) == (0.0, "fitted", False, "fp32")
    assert (rated.rate, rated.step_sizes, rated.fold_norms, rated.vectors) == (0.1, "learned", True, "bf16")
