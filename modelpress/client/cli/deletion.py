"""`modelpress delete`: jobs, models and data sets that are not needed any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from modelpress.client.cli import options, screen
from modelpress.client.client import Client

# What an id begins with says what it is of.
_DELETIONS: dict[str, Callable[[Client, str], None]] = {
    "job": Client.delete_job,
    "mdl": Client.delete_model,
    "dts": Client.delete_dataset,
}


def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Of jobs, models and data sets, in any order.")],
    url: options.Url = None,
) -> None:
    """Delete jobs with all that they made, models and data sets; prints each id when it is gone.

    A job must be at its end, and what a job works with is kept until then; the first that is refused ends the command.
    """
    for item in ids:
        if item.partition("_")[0] not in _DELETIONS:
            raise typer.BadParameter(f"{item!r} is the id of no job (job_...), model (mdl_...) or data set (dts_...)")
    with Client(url) as client:
        for item in ids:
            _DELETIONS[item.partition("_")[0]](client, item)
            screen.answer(item)
