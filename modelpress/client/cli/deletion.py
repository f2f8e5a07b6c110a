"""`modelpress delete`: jobs, models and data sets that are not needed any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import httpx
import typer

from modelpress.client.cli import options, screen
from modelpress.client.cli.exit_codes import FAILED
from modelpress.client.client import Client
from modelpress.client.errors import ApiError

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
    One that is not there, or not any more, is told of, and the others are deleted all the same.
    """
    for item in ids:
        if item.partition("_")[0] not in _DELETIONS:
            raise typer.BadParameter(f"{item!r} is the id of no job (job_...), model (mdl_...) or data set (dts_...)")
    are_all_gone = True
    with Client(url) as client:
        for item in ids:
            try:
                _DELETIONS[item.partition("_")[0]](client, item)
            except ApiError as error:
                if error.status != httpx.codes.NOT_FOUND:
                    raise
                screen.hint(f"modelpress: {error}")
                are_all_gone = False
            else:
                screen.answer(item)
    if not are_all_gone:
        raise typer.Exit(FAILED)
