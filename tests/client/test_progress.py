"""Progress as it is shown: bars in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from rich.console import Console

from modelpress.client.progress import ByteBar, JobBars, describe, describe_wait, time_left
from modelpress.spec.event import Progress
from modelpress.spec.state import JobState
from modelpress.spec.waiting import Waiting, WaitingReason
from tests.client.resources import make_job


def _at(fraction: float, step: int | None = 0) -> Progress:
    stage = "loading" if step is None else "step"
    return Progress(stage=stage, step=step, steps=2, step_kind="prune", fraction=fraction)


def test_a_place_in_a_few_words() -> None:
    progress = Progress(
        stage="step",
        step=1,
        steps=2,
        step_kind="prune",
        fraction=0.5,
        eta_seconds=65.4,
        epoch=3,
        epochs=10,
        metrics={"sparsity": 0.7512, "loss": 1.23456, "images_per_second": 9.0},
    )
    assert describe(progress) == "step 2/2 prune, epoch 3/10, loss 1.23, sparsity 0.751"
    assert time_left(progress) == "1:05 left"
    assert describe(_at(0.0, None)) == "loading"
    assert time_left(_at(0.0)) == ""


def test_without_a_terminal_a_line_for_each_stage_and_each_tenth() -> None:
    console = Console(file=io.StringIO(), width=100)
    with JobBars(console) as bars:
        for progress in (_at(0, None), _at(0.05, None), _at(0.06), _at(0.1), _at(0.17), _at(0.2), _at(0.21, 1)):
            bars.show("job [1]", progress)
        bars.say("job [1]", "succeeded")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "job [1]:   0% loading",
        "job [1]:   6% step 1/2 prune",
        "job [1]:  17% step 1/2 prune",
        "job [1]:  21% step 2/2 prune",
        "job [1]: succeeded",
    ]


def test_in_a_terminal_a_bar_moves() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with JobBars(console) as bars:
        bars.say("job [1]", "waiting")
        bars.show("job [1]", _at(0.42))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().rpartition("job [1]")[2]
    assert " 42%" in shown
    assert "step 1/2 prune" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_bytes_are_shown_in_a_terminal_alone(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    with ByteBar(console) as bar:
        bar.show("[model].pt", 1_000_000, 2_000_000)
    assert isinstance(console.file, io.StringIO)
    assert ("[model].pt" in console.file.getvalue()) is terminal
    assert ("1.0/2.0 MB" in console.file.getvalue()) is terminal


def test_what_a_job_waits_for_in_a_few_words() -> None:
    job = make_job(JobState.QUEUED)
    turn = Waiting(reason=WaitingReason.TURN, message="it is taken when its turn comes")
    placed = job.model_copy(update={"queue_position": 3, "waiting": turn})
    assert describe_wait(placed) == "waiting, place 3 in the queue"
    start = datetime(2026, 1, 31, 17, 5).astimezone()
    assert describe_wait(placed.model_copy(update={"expected_start": start})) == (
        "waiting, place 3 in the queue, about 2026-01-31 17:05"
    )
    alone = Waiting(reason=WaitingReason.NO_WORKER, message="no worker is alive")
    assert describe_wait(placed.model_copy(update={"waiting": alone})).endswith("queue: no worker is alive")
