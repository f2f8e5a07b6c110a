"""The command `modelpress`.

Exit codes: 0 done; 1 a job failed, a file was rejected, the service refused or cannot be reached; 2 the command was
written wrongly; 130 stopped by Ctrl-C. Errors are one line on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

import modelpress
from modelpress.client.cli import catalogue, deletion, jobs, local, screen, uploads
from modelpress.client.cli.exit_codes import FAILED, INTERRUPTED, MISUSED
from modelpress.client.ending import end_as_by_ctrl_c
from modelpress.client.errors import InvalidRecipe, ModelPressError

app = typer.Typer(
    name="modelpress",
    help="Make neural networks smaller and faster: on a ModelPress service, or on this machine (compress).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(uploads.upload, name="upload")
for command in (
    uploads.models,
    uploads.model,
    uploads.datasets,
    jobs.submit,
    jobs.jobs,
    jobs.job,
    jobs.watch,
    jobs.report,
    jobs.log,
    jobs.download,
    jobs.cancel,
    jobs.retry,
    deletion.delete,
    catalogue.methods,
    catalogue.recipes,
    catalogue.architectures,
    local.compress,
):
    app.command(command.__name__)(command)


def _version(wanted: bool) -> None:
    if wanted:
        screen.answer(f"modelpress {modelpress.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Make neural networks smaller and faster: on a ModelPress service, or on this machine (compress)."""


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return its exit code; nothing is raised for what a user can do wrong."""
    try:
        code = app(args=list(arguments), prog_name="modelpress", standalone_mode=False)
    except TyperException as error:
        if message := error.format_message():
            screen.hint(f"modelpress: {message}")
        return MISUSED
    except ModelPressError as error:
        screen.hint(f"modelpress: {error}")
        return MISUSED if isinstance(error, InvalidRecipe) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def main() -> None:
    """The entry point of the command."""
    end_as_by_ctrl_c()
    sys.exit(run(sys.argv[1:]))
