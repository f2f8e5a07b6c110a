"""What a benchmark writes: figures with their targets, the machine, the conditions, and the command that made them."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from modelpress.engine.provenance import machine, versions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured number, and the bound that it should keep."""

    name: str
    value: float
    unit: str = "ratio"
    at_least: float | None = None
    at_most: float | None = None
    samples: tuple[float, ...] = ()  # what `value` is the median of
    baseline: Mapping[str, float] = field(default_factory=dict)  # measured in the same run

    @property
    def met(self) -> bool | None:
        """True when the bound is kept; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""


def arguments(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json", help="where the result is written")
    return parser


def publish(
    path: Path, title: str, conditions: Mapping[str, Any], figures: Sequence[Figure], device: str = "cpu"
) -> None:
    """Write the result and print it as a table."""
    name = path.stem
    result = {
        "benchmark": name,
        "command": command_line(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(torch.device(device)),
        "versions": versions(),
        "conditions": dict(conditions),
        "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")

    table = Table(title=title)
    for heading in ("figure", "value", "unit", "bound", "kept"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for figure in figures:
        kept = {None: "", True: "yes", False: "NO"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.3f}", figure.unit, figure.bound, kept)
    console = Console(width=max(100, Console().width))
    console.print(table)
    console.print(f"{path}")


def command_line() -> str:
    """The command that runs this benchmark, as a user types it."""
    module = sys.modules["__main__"].__spec__
    name = module.name.removesuffix(".__main__") if module is not None else sys.argv[0]
    return shlex.join(["python", "-m", name, *sys.argv[1:]])


def commit() -> str | None:
    """The commit that is checked out, with `-dirty` behind where files differ from it; None outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None
