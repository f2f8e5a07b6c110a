"""Epochs for the time there is: what every step of every run costs on this machine, and the share of epochs that fits.

An epoch of a step over N images takes N (t + f) seconds: t to train on one image, f the original's forward pass where
it teaches. Where the teacher's outputs are kept, its pass is made once or twice in all. Steps that several jobs begin
with are done once: the service keeps their results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.slimnets.recipes import ablations
from benchmarks.slimnets.runs import Run, Steps
from modelpress.client import ModelPressError
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.cost import taught_images
from modelpress.spec.steps import AnyStep, Distill

Data = Literal["tuning", "final"]

LEAST_EPOCH = 0.1
"""Share of an epoch that every step gets, however little time there is."""

SEARCH_EPOCHS = 0.5
"""Of a candidate on the tuning data, over those of the chosen one."""

# Which tables share a pot of time, and its part of the whole. Tables 3 and 5 begin with the same distillation;
# the epochs of table 7 are declared, and counted with what everything takes at least.
POTS: dict[tuple[int, ...], float] = {(1,): 0.2, (2,): 0.1, (3, 5): 0.3, (6,): 0.4, (7,): 0.0}
_LEAST_SHARE = 1e-9  # LEAST_EPOCH each
HALVINGS = 40  # of the interval that a share is looked for in


class BudgetTooSmall(ModelPressError):
    """Not even a tenth of an epoch of everything fits the time given; the message says how long that takes."""


@dataclass(frozen=True)
class Speed:
    """Of one network, seconds for one image."""

    forward: float
    training: float


@dataclass(frozen=True)
class Machine:
    """What runs cost here."""

    speeds: Mapping[str, Speed]  # by the network's name, see `name_of`
    original: str
    job_seconds: float  # of each job beside its training: start, measurements, files and their proof
    train_images: int
    tuning_images: int

    def images(self, data: Data) -> int:
        """Images that a training sees in an epoch."""
        return self.train_images - (self.tuning_images if data == "tuning" else 0)


@dataclass(frozen=True)
class Job:
    """One job of a plan: what is submitted, with its epochs."""

    name: str
    data: Data
    seed: int
    steps: Steps


def name_of(network: ArchitectureRef) -> str:
    """The network and its arguments, as a key."""
    arguments = {key: value for key, value in sorted(network.arguments.items()) if key != "num_classes"}
    return f"{network.architecture} {json.dumps(arguments)}" if arguments else network.architecture


def scaled(steps: Steps, share: float, part_rate: float = 1.0) -> Steps:
    """The same steps with that share of their epochs, rounded down; an epoch each for 0.

    What is less than an epoch is one of a part of the images, in twentieths, LEAST_EPOCH at least, and takes
    `part_rate` of the learning rate.
    """
    return tuple(_with_epochs(step, lambda epochs: epochs * share if share else 1, part_rate) for step in steps)


def lasting(steps: Steps, epochs: int) -> Steps:
    """The same steps, so many epochs each."""
    return tuple(_with_epochs(step, lambda _: epochs) for step in steps)


def _with_epochs(step: AnyStep, change: Callable[[int], float], part_rate: float = 1.0) -> AnyStep:
    if step.training is None:
        return step
    epochs = change(step.training.epochs) + 1e-9
    changed: dict[str, float] = {"epochs": max(1, int(epochs)), "epoch_share": 1.0}
    if epochs < 1:
        changed["epoch_share"] = max(LEAST_EPOCH, int(20 * epochs) / 20)
        changed["learning_rate"] = step.training.learning_rate * part_rate
    return step.model_copy(update={"training": step.training.model_copy(update=changed)})


def _share(run: Run, share: float) -> float:
    return min(1.0, share * run.epoch_weight)


def search_jobs(run: Run, share: float) -> list[Job]:
    """The candidates of a run on the tuning data; none where there is nothing to choose."""
    if len(run.candidates) == 1:
        return []
    searched = SEARCH_EPOCHS * _share(run, share)
    return [
        Job(f"{run.name}, {name}", "tuning", run.seeds[0], scaled(steps, searched, run.part_rate))
        for name, steps in run.candidates.items()
    ]


def final_jobs(run: Run, chosen: str, share: float, original_epochs: int) -> list[Job]:
    """The chosen candidate on the final data, once for each seed."""
    steps = run.candidates[chosen]
    if run.epochs == "original":
        steps = lasting(steps, original_epochs)
    elif run.epochs == "scaled":
        steps = scaled(steps, _share(run, share), run.part_rate)
    return [Job(run.name, "final", seed, steps) for seed in run.seeds]


def seconds(jobs: Iterable[Job], machine: Machine) -> float:
    """What the jobs take together, steps that several begin with counted once."""
    total, done = 0.0, set()
    for job in jobs:
        total += machine.job_seconds
        network = machine.original
        for place, step in enumerate(job.steps):
            if isinstance(step, Distill) and isinstance(step.student, ArchitectureRef):
                network = name_of(step.student)
            begins = json.dumps(
                [job.data, job.seed, [one.model_dump(mode="json") for one in job.steps[: place + 1]]], sort_keys=True
            )
            if begins not in done:
                done.add(begins)
                total += _step_seconds(step, network, machine.images(job.data), machine)
    return total


def _step_seconds(step: AnyStep, network: str, images: int, machine: Machine) -> float:
    training = step.training
    if training is None:
        return 0.0
    trained = training.images_of_work(images) * machine.speeds[network].training
    return trained + taught_images(step, images) * machine.speeds[machine.original].forward


def cost(runs: Sequence[Run], share: float, machine: Machine, original_epochs: int) -> float:
    """Seconds of runs at a share of their epochs; where there is a choice, as if the most costly one were made."""

    def final(run: Run, chosen: str) -> list[Job]:
        jobs = final_jobs(run, chosen, share, original_epochs)
        for part in ablations(run, chosen):
            jobs += final_jobs(part, part.name, share, original_epochs)
        return jobs

    plain = [run for run in runs if len(run.candidates) == 1]
    total = seconds((job for run in plain for name in run.candidates for job in final(run, name)), machine)
    for run in runs:
        if run not in plain:
            total += seconds(search_jobs(run, share), machine)
            total += max(seconds(final(run, name), machine) for name in run.candidates)
    return total


def shares(
    runs: Sequence[Run], minutes: float | None, machine: Machine | None, original_epochs: int
) -> dict[int, float]:
    """The share of its epochs that each table gets, by its number; 1 for all without a limit, 0 for a limit of 0.

    Every pot gets what LEAST_EPOCH of everything takes; the rest is divided by POTS. Raises BudgetTooSmall.
    """
    pots = {tables: [run for run in runs if run.table in tables] for tables in POTS}
    pots = {tables: inside for tables, inside in pots.items() if inside}
    if not minutes or machine is None:
        return dict.fromkeys((table for tables in pots for table in tables), 1.0 if minutes is None else 0.0)
    least = {tables: cost(inside, _LEAST_SHARE, machine, original_epochs) for tables, inside in pots.items()}
    rest = minutes * 60 - sum(least.values())
    if rest < 0:
        raise BudgetTooSmall(
            f"{LEAST_EPOCH:g} epochs of everything take about {sum(least.values()) / 60:.0f} minutes on this machine, "
            f"more than the {minutes:g} given: raise --budget, choose --tables or --only, or take --short"
        )
    whole = sum(POTS[tables] for tables in pots) or 1.0
    found: dict[int, float] = {}
    for tables, inside in pots.items():
        limit = least[tables] + rest * POTS[tables] / whole
        share = _largest_share(lambda share, inside=inside: cost(inside, share, machine, original_epochs), limit)  # type: ignore[misc]
        found |= dict.fromkeys(tables, share)
    return found


def _largest_share(cost_at: Callable[[float], float], limit: float) -> float:
    if cost_at(1.0) <= limit:
        return 1.0
    low, high = _LEAST_SHARE, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_at(middle) <= limit else (low, middle)
    return low
