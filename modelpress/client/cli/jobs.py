"""`modelpress submit`, `jobs`, `watch`, `cancel`, `retry`, `download`, `report`, `log`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelpress.client.cli import options, screen
from modelpress.client.client import Client
from modelpress.client.estimate import describe_estimate
from modelpress.client.job import JobHandle
from modelpress.client.progress import ByteBar, JobBars, describe_wait
from modelpress.client.recipe import Flags, choose_document
from modelpress.client.table import result_table
from modelpress.spec.resources import Job
from modelpress.spec.state import JobState

INTERRUPTED = 130


def submit(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A file (YAML or JSON), or the name of a ready recipe; without it, flags name the steps.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Id of the uploaded model.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Id of the uploaded data set.")] = None,
    name: options.Name = None,
    seed: options.Seed = None,
    priority: Annotated[
        int | None,
        typer.Option("--priority", help="Of your team's waiting jobs, one of a higher priority is taken first."),
    ] = None,
    distill: options.Distill = None,
    factorize: options.Factorize = None,
    prune: options.Prune = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    teacher: options.Teacher = False,
    flip: options.Flip = False,
    crop_padding: options.CropPadding = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job until its end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only ask whether it would be accepted.")] = False,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Hand in a job and print its id.

    Steps come from a file, a ready recipe, or from flags; flags are done in the order distill, factorize, prune.
    --model, --dataset, --name, --seed and --priority win over what the file says.
    """
    flags = Flags(distill, factorize, prune, epochs, learning_rate, batch_size, teacher, flip, crop_padding)
    spec = choose_document(recipe, flags) | {
        field: value
        for field, value in (
            ("model", model),
            ("dataset", dataset),
            ("name", name),
            ("seed", seed),
            ("priority", priority),
        )
        if value is not None
    }
    with Client(url) as client:
        if dry_run:
            check = client.check(spec)
            if as_json:
                screen.answer_json(check)
            else:
                screen.answer("accepted: " + screen.steps_of(check.spec))
                if check.estimate is not None:
                    screen.answer(describe_estimate(check.estimate))
            return
        job = client.submit(spec)
        if as_json and not wait:
            screen.answer_json(job.resource)
            return
        screen.answer(job.id)
        if job.resource.estimate is not None:
            screen.hint(describe_estimate(job.resource.estimate))
        if wait:
            _watch(job)
        else:
            screen.hint(f"`modelpress watch {job.id}` shows how it gets on")


def jobs(
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only jobs on this model.")] = None,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """List the jobs, newest first."""
    with Client(url) as client:
        found = list(client.jobs(state=state, model=model))
    if as_json:
        screen.answer_json(found)
        return
    headings = ("id", "name", "state", "done", "priority", "starts", "steps", "model", "compression", "submitted")
    screen.answer_table(headings, [_row(job) for job in found])


def watch(job: options.JobId, url: options.Url = None) -> None:
    """Show a job's progress until its end. Ctrl-C leaves the job running."""
    with Client(url) as client:
        _watch(client.job(job))


def cancel(job: options.JobId, url: options.Url = None) -> None:
    """Cancel a job."""
    with Client(url) as client:
        screen.answer(client.job(job).cancel().state.value)


def retry(job: options.JobId, url: options.Url = None) -> None:
    """Put a failed or cancelled job back into the queue."""
    with Client(url) as client:
        screen.answer(client.job(job).retry().state.value)


def download(
    job: options.JobId,
    folder: Annotated[Path, typer.Argument(help="Where to; made when it is not there.")] = Path(),
    url: options.Url = None,
) -> None:
    """Download a job's files, report and log; a broken download is resumed by the same command."""
    with Client(url) as client, ByteBar(screen.err()) as bar:
        paths = client.job(job).download(folder, lambda file, have, size: bar.show(file.filename, have, size))
    for path in paths:
        screen.answer(str(path))


def report(job: options.JobId, url: options.Url = None, as_json: options.Json = False) -> None:
    """Show what a job reports: the original against the result."""
    with Client(url) as client:
        handle = client.job(job)
        found = handle.report
    if as_json:
        screen.answer_json(found)
        return
    screen.out().print(result_table({_label(handle.resource): found}))
    for warning in found.warnings:
        screen.answer(f"warning: {warning}")


def log(job: options.JobId, url: options.Url = None) -> None:
    """Show what a job's work printed so far."""
    with Client(url) as client:
        screen.answer(client.job(job).log().rstrip("\n"))


def _watch(job: JobHandle) -> None:
    try:
        with JobBars(screen.err()) as bars:
            if job.resource.queue_position is not None:
                bars.say(job.id, describe_wait(job.resource))
            job.wait(on_progress=lambda progress: bars.show(job.id, progress))
            bars.say(job.id, "succeeded")
    except KeyboardInterrupt:
        screen.hint(
            f"{job.id} goes on; `modelpress watch {job.id}` shows it again, `modelpress cancel {job.id}` ends it"
        )
        raise typer.Exit(INTERRUPTED) from None
    screen.out().print(result_table({_label(job.resource): job.report}))
    screen.hint(f"`modelpress download {job.id} FOLDER` fetches the files")


def _label(job: Job) -> str:
    return job.name or screen.steps_of(job.spec)


def _row(job: Job) -> tuple[str, ...]:
    done = "" if job.progress is None else f"{100 * job.progress.fraction:.0f}%"
    if job.queue_position is not None:
        done = f"place {job.queue_position}"
    ratio = "" if job.ratios is None else f"{job.ratios.stored_bytes:.3g}x"
    return (
        job.id,
        job.name,
        job.state.value,
        done,
        str(job.spec.priority),
        "" if job.expected_start is None else screen.when(job.expected_start),
        screen.steps_of(job.spec),
        job.spec.model,
        ratio,
        screen.when(job.created_at),
    )
