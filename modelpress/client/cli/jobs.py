"""`modelpress submit`, `jobs`, `job`, `watch`, `cancel`, `retry`, `download`, `report`, `log`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modelpress.client.cli import options, screen
from modelpress.client.cli.exit_codes import INTERRUPTED
from modelpress.client.client import Client
from modelpress.client.estimate import describe_estimate
from modelpress.client.job import JobHandle
from modelpress.client.progress import ByteBar, JobBars, describe, describe_wait
from modelpress.client.recipe import Flags, choose_document
from modelpress.client.table import result_table
from modelpress.spec.resources import Attempt, Job
from modelpress.spec.state import JobState


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
    wait_limit: Annotated[
        float | None,
        typer.Option("--wait-limit", min=1, metavar="SECONDS", help="Longest time in the queue; then it fails."),
    ] = None,
    device: Annotated[
        Literal["any", "cpu", "cuda"] | None,
        typer.Option("--device", help="What it must be computed on; cuda for a worker with a GPU."),
    ] = None,
    cores: Annotated[int | None, typer.Option("--cores", min=1, help="Processor cores that it needs.")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Main memory that it needs, such as 16GiB.")
    ] = None,
    gpu_memory: Annotated[
        str | None,
        typer.Option("--gpu-memory", metavar="SIZE", help="Memory of one GPU that it needs, with --device cuda."),
    ] = None,
    no_reuse: Annotated[
        bool, typer.Option("--no-reuse", help="Run it all, also where the service has the result, or a part of it.")
    ] = False,
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
    All other flags win over what the file says. A job that is the same as one of your team's that succeeded is given
    that one's result at once.
    """
    flags = Flags(distill, factorize, prune, epochs, learning_rate, batch_size, teacher, flip, crop_padding)
    document = choose_document(recipe, flags)
    needs = options.read_needs(device, cores, memory, gpu_memory)
    spec = document | {
        field: value
        for field, value in (
            ("model", model),
            ("dataset", dataset),
            ("name", name),
            ("seed", seed),
            ("priority", priority),
            ("wait_limit_seconds", wait_limit),
            ("needs", needs and {**(document.get("needs") or {}), **needs}),
            ("reuse", False if no_reuse else None),
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
                if check.reused_from is not None:
                    screen.answer(f"it would be given the result of {check.reused_from}, which was the same")
                if check.estimate is not None:
                    screen.answer(describe_estimate(check.estimate))
            return
        job = client.submit(spec)
        if as_json:
            try:
                if wait:
                    _wait(job)
            finally:  # also of one that failed
                screen.answer_json(job.resource)
            return
        screen.answer(job.id)
        if job.resource.reused_from is not None:
            screen.hint(f"{_reused(job.resource)}; `--no-reuse` runs it")
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


def job(job: options.JobId, url: options.Url = None, as_json: options.Json = False) -> None:
    """Show how a job stands, and who tried it: for how long, and how that ended."""
    with Client(url) as client:
        found = client.job(job).resource
    if as_json:
        screen.answer_json(found)
        return
    screen.answer(f"{found.id}  {_label(found)}  {found.state.value}")
    for line in (*_standing(found), *(() if found.failure is None else (found.failure.message,))):
        screen.answer(line)
    if found.attempts:
        headings = ("attempt", "worker", "began", "took", "outcome", "why", "went on from")
        screen.answer_table(headings, [_attempt_row(attempt) for attempt in found.attempts])


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
    folder: Annotated[
        Path | None, typer.Argument(help="Where to; made when it is not there. A folder named as the job by default.")
    ] = None,
    url: options.Url = None,
) -> None:
    """Download a job's files, report and log; a broken download is resumed by the same command."""
    folder = Path(job) if folder is None else folder
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
    if handle.resource.reused_from is not None:
        screen.answer(_reused(handle.resource))
    for stage in found.stages:
        if stage.reused_from is not None:
            screen.answer(f"step {stage.index} ({stage.kind}) was taken from {stage.reused_from}, with its times")
    for warning in found.warnings:
        screen.answer(f"warning: {warning}")


def log(job: options.JobId, url: options.Url = None) -> None:
    """Show what a job's work printed so far."""
    with Client(url) as client:
        screen.answer(client.job(job).log().rstrip("\n"))


def _watch(job: JobHandle) -> None:
    _wait(job)
    screen.out().print(result_table({_label(job.resource): job.report}))
    screen.hint(f"`modelpress download {job.id} FOLDER` fetches the files")


def _wait(job: JobHandle) -> None:
    try:
        with JobBars(screen.err()) as bars:
            if job.resource.queue_position is not None:
                bars.say(job.id, describe_wait(job.resource))
            job.wait(on_progress=lambda progress: bars.show(job.id, progress))
            bars.say(job.id, "succeeded" if job.resource.reused_from is None else _reused(job.resource))
    except KeyboardInterrupt:
        screen.hint(
            f"{job.id} goes on; `modelpress watch {job.id}` shows it again, `modelpress cancel {job.id}` ends it"
        )
        raise typer.Exit(INTERRUPTED) from None


def _reused(job: Job) -> str:
    """That a job was not run, and whose result it has."""
    return f"not run: it has the result of {job.reused_from}, which was the same"


def _standing(job: Job) -> list[str]:
    lines = []
    if job.reused_from is not None:
        lines.append(_reused(job))
    if not job.state.final:
        lines.append(describe_wait(job) if job.progress is None else describe(job.progress))
    return lines


def _attempt_row(attempt: Attempt) -> tuple[str, ...]:
    return (
        str(attempt.number),
        attempt.worker,
        screen.when(attempt.started_at),
        "" if attempt.seconds is None else screen.duration(attempt.seconds),
        attempt.outcome or "at work",
        attempt.reason or "",
        "" if attempt.continues is None else f"attempt {attempt.continues}",
    )


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
