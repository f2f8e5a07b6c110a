"""What the commands print: answers on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelpress.spec.job import JobSpec
from modelpress.spec.network import in_words
from modelpress.spec.resources import Model

# Tables that go into a file or a pipe are not to be cut at 80 columns.
PIPE_WIDTH = 200


def out() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def err() -> Console:
    """Standard error: hints and progress."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def answer(text: str) -> None:
    """One plain line on standard output, for eyes and scripts alike."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def hint(text: str) -> None:
    """One plain line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def answer_json(items: BaseModel | Iterable[BaseModel]) -> None:
    """One resource, or a list of them, as JSON on standard output."""
    document = (
        items.model_dump(mode="json")
        if isinstance(items, BaseModel)
        else [item.model_dump(mode="json") for item in items]
    )
    answer(json.dumps(document, indent=2, ensure_ascii=False))


def answer_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output. Cells are shown as they are: brackets in a user's text are no markup."""
    table = Table(*headings)
    for row in rows:
        table.add_row(*map(Text, row))
    out().print(table)


def steps_of(spec: JobSpec) -> str:
    """`distill, prune`."""
    return ", ".join(step.kind for step in spec.steps)


def architecture_of(model: Model) -> str:
    """`vgg19_bn_cifar(width=0.5)`; empty while only the file itself says what it is."""
    return "" if model.architecture is None else in_words(model.architecture)


def when(moment: datetime) -> str:
    """`2026-01-31 17:05`, in the time of this place."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """`7.3 s`, `5 min 12 s`, `3 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
