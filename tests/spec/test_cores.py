"""Cores are counted by what the process may use: its affinity and its container's limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelpress.spec import cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (None, ALLOWED),
        ("max 100000\n", ALLOWED),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        (f"{ALLOWED * 50_000} 50000\n", ALLOWED),
        (f"{ALLOWED * 100_000 + 50_000} 100000\n", ALLOWED),
        ("what is this?\n", ALLOWED),
    ],
)
def test_a_containers_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, found: int
) -> None:
    path = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "CPU_LIMIT", path)
    if limit is not None:
        path.write_text(limit)
    assert cores.available_cores() == found


def test_a_limit_is_rounded_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    path.write_text("290000 100000\n")
    monkeypatch.setattr(cores, "CPU_LIMIT", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    assert cores.available_cores() == 2


def test_affinity_counts() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from modelpress.spec.cores import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
