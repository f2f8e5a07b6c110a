"""The demo as a whole, as `make demo` runs it, only shorter."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import modelpress
from modelpress.spec.report import Report
from tests.support.service import ROOT, child_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
# One of four that differ by the kinds of their steps, which have tests of their own.
RECIPES = {"distill-then-prune"}


@contextmanager
def _demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    words = ["--only", *RECIPES, "--epochs", "1", "--train-epochs", "1", "--folder", str(folder)]
    environment = child_environment(MODELPRESS_THREADS="1", PYTHONUNBUFFERED="1")
    with subprocess.Popen(
        [sys.executable, "-m", "demo", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still work in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line:
            found.append(line)
    return found


def test_the_main_job_end_to_end(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    results = tmp_path / "digits" / "results"
    assert {folder.name for folder in results.iterdir()} == RECIPES
    for folder in results.iterdir():
        report = Report.model_validate_json((folder / "report.json").read_bytes())
        assert report.final.accuracy is not None
        assert f"{100 * report.final.accuracy.top1:.2f}%" in said
        modelpress.load(folder / "model.mpz")
    assert "speed-up" in said
    assert said.count("as reported") == len(RECIPES)
    assert _left_behind(tmp_path) == []


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "baseline" in line:  # the first job is at work
                break
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(120) == 130
    assert "nothing goes on in the background" in said
    assert "Traceback" not in said
    assert _left_behind(tmp_path) == []
