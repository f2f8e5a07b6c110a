"""The checks notice what they are there for: a chain that was not followed link by link, a history that cannot be."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.models import Attempt, Event, Job
from modelpress.spec.event import StateChanged
from modelpress.spec.state import JobState
from tests.faults.check import faults_of_history
from tests.support.reports import a_report
from tests.support.scripted_engine import chain, link

BEGIN = link("model", "dataset", 0)
FIRST = link(link(BEGIN, 0, 1), 0, 2)  # the last link of the first step

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Engine:
    """The scripted engine, upon whatever checkpoint."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._script = home / "script.json"
        play = {"epoch_seconds": 0, "artifact_bytes": 100, "report": json.loads(a_report().model_dump_json())}
        self._script.write_text(json.dumps(play))

    def run(self, name: str, *, seed: int = 0, training: dict[str, Any] | None = None) -> tuple[Any, ...]:
        """Its figures and its file; with `training`, as if the first step had been completed by an earlier attempt."""
        folder = self._home / name
        (folder / "checkpoint").mkdir(parents=True)
        task = {"seed": seed, "steps": [{"training": {"epochs": 2}}] * 2}
        inputs = {kind: {"sha256": kind} for kind in ("model", "dataset")}
        (folder / "task.json").write_text(json.dumps({**inputs, "recipe": task}))
        if training is not None:
            (folder / "checkpoint" / "steps.safetensors").write_text(json.dumps([FIRST]))
            (folder / "checkpoint" / "training.safetensors").write_text(json.dumps({"step": 1, **training}))
        chain(folder, str(self._script))
        report = json.loads((folder / "report.json").read_text())
        stages = [stage["measurement"]["nonzero_parameters"] for stage in report["stages"]]
        return report["final"]["nonzero_parameters"], stages, report["proofs"][0]["sha256"]


def test_a_chain_tells_whether_each_epoch_had_its_turn(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    whole, one = engine.run("whole"), link(FIRST, 1, 1)
    assert engine.run("gone on", training={"epoch": 1, "state": one}) == whole
    assert engine.run("left out", training={"epoch": 1, "state": FIRST}) != whole
    assert engine.run("done twice", training={"epoch": 1, "state": link(one, 1, 1)}) != whole
    assert engine.run("another's", training={"epoch": 1, "state": link("another", 1, 1)}) != whole
    assert engine.run("another seed", seed=1) != whole


def _history(*states: str, outcomes: tuple[str | None, ...] = ("lost", "succeeded"), late: float = -1) -> list[str]:
    """What is found of a job with these changes of state and attempts of a minute each."""
    row = Job(id="job_1", state=JobState.SUCCEEDED, attempt=len(outcomes), last_seq=len(states))
    attempts = [
        Attempt(number=number, outcome=outcome, finished_at=START + timedelta(minutes=number))
        for number, outcome in enumerate(outcomes, 1)
    ]
    events = [
        Event(seq=seq, attempt=1, event=StateChanged(state=state, attempt=1)) for seq, state in enumerate(states, 1)
    ]
    written = [("metrics", 1, START + timedelta(minutes=1, seconds=late))]
    return list(faults_of_history(row, attempts, events, list(states), written))


TRUE = ("queued", "running", "queued", "running", "succeeded")


def test_a_true_history_is_passed() -> None:
    assert _history(*TRUE) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lambda: _history(*TRUE, late=5), "was written to by its attempt 1 after that had ended"),
        (lambda: _history(*TRUE, outcomes=(None, "succeeded")), "its attempt 1 is not"),
        (lambda: _history(*TRUE[:-1]), "its events end with ['running']"),
        (lambda: _history("queued", "running", "succeeded"), "began 1 times, in 2 attempts"),
    ],
    ids=["late write", "open attempt", "no end", "attempt without a beginning"],
)
def test_a_history_that_cannot_be_is_found(found, words: str) -> None:
    assert any(words in one for one in found())
