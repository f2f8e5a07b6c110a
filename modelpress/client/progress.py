"""Progress bars: of a job or a local compression, and of bytes on their way. Plain lines where there is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from modelpress.spec.event import Progress
from modelpress.spec.resources import Job
from modelpress.spec.waiting import WaitingReason

# Without a terminal, a line for each stage and for each further tenth of the job.
PLAIN_SHARE = 0.1


class JobBars:
    """A bar per job, moved by `Progress` events. A context manager; the bars stay on the screen at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bars = Bars(
            TextColumn("{task.fields[job]}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[left]}", style="dim", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[object, float]] = {}

    def __enter__(self) -> JobBars:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()

    def show(self, job: str, progress: Progress) -> None:
        """Move the bar of `job` (any name)."""
        if self._live:
            self._bars.update(
                self._task(job), completed=progress.fraction, description=describe(progress), left=time_left(progress)
            )
            return
        place = (progress.stage, progress.step)
        before, fraction = self._said.get(job, (None, 0.0))
        if place != before or progress.fraction >= fraction + PLAIN_SHARE:
            self._said[job] = (place, progress.fraction)
            self._console.print(
                f"{job}: {100 * progress.fraction:3.0f}% {describe(progress)}", highlight=False, markup=False
            )

    def say(self, job: str, words: str) -> None:
        """Put words where the stage stands: that it waits, that it is done."""
        if self._live:
            self._bars.update(self._task(job), description=words, left="")
        else:
            self._console.print(f"{job}: {words}", highlight=False, markup=False)

    def _task(self, job: str) -> TaskID:
        if job not in self._tasks:
            self._tasks[job] = self._bars.add_task("waiting", total=1.0, job=job, left="")
        return self._tasks[job]


class ByteBar:
    """A bar of bytes sent or received, for one file after the other. Nothing is shown without a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ByteBar:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, file: str, done: int, size: int) -> None:
        """Move the bar of a file to `done` of `size` bytes."""
        if file not in self._tasks:
            self._tasks[file] = self._bars.add_task(file, total=size)
        self._bars.update(self._tasks[file], completed=done)


def describe(progress: Progress) -> str:
    """Where a job stands, in a few words: `step 1/2 prune, epoch 3/10, accuracy 0.981`."""
    parts: list[str] = [progress.stage]
    if progress.step is not None:
        parts = [f"step {progress.step + 1}/{progress.steps} {progress.step_kind or ''}".rstrip()]
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}/{progress.epochs}" if progress.epochs else f"epoch {progress.epoch}")
    parts += [
        f"{name} {progress.metrics[name]:.3g}" for name in ("loss", "accuracy", "sparsity") if name in progress.metrics
    ]
    return ", ".join(parts)


def describe_wait(job: Job) -> str:
    """`waiting, place 3 in the queue, about 2026-01-31 17:05`, and why if it is for more than its turn."""
    parts = ["waiting"]
    if job.queue_position is not None:
        parts.append(f"place {job.queue_position} in the queue")
    if job.expected_start is not None:
        parts.append(f"about {job.expected_start.astimezone():%Y-%m-%d %H:%M}")
    words = ", ".join(parts)
    if job.waiting is not None and job.waiting.reason is not WaitingReason.TURN:
        words += f": {job.waiting.message}"
    return words


def time_left(progress: Progress) -> str:
    """The estimate as `1:05 left`; empty while unknown."""
    if progress.eta_seconds is None:
        return ""
    minutes, seconds = divmod(round(progress.eta_seconds), 60)
    return f"{minutes}:{seconds:02} left"
