"""One engine process: started without credentials and under limits, ended with everything that it started.

worker -- launcher (own session, kills all below when it ends) -- engine -- whatever the engine starts

Between worker and launcher stands a zygote, where the engine is forked from one (worker/zygote.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

import modelpress
from modelpress.spec.task import ENGINE_ENVIRONMENT, LOG_FILE
from service.jail.walls import Walls
from service.launch import Terms
from worker.starter import Starter

# How long the launcher may take to clear up before the worker does it itself, seconds.
PATIENCE_SECONDS = 3.0

_OPEN_FILES = 4096
_PIECE_BYTES = 1 << 16
_CUT = b"\n[log cut here: it reached its limit]\n"


def engine_environment(
    folder: Path, *, threads: int | None = None, cuda_visible_devices: str | None = None
) -> dict[str, str]:
    """The whole environment of an engine that works in `folder`: nothing of the worker's own but the search path."""
    environment = {
        "PATH": os.pathsep.join(os.get_exec_path()),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONSAFEPATH": "1",  # never import from the work folder, where uploads are
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        **ENGINE_ENVIRONMENT,
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    if cuda_visible_devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = cuda_visible_devices
    root = Path(modelpress.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = str(root)  # run from a checkout
    return environment


class Child:
    """A running engine. Start it in the thread that waits for it: it dies when that thread does."""

    def __init__(
        self,
        starter: Starter,
        folder: Path,
        *,
        environment: Mapping[str, str],
        file_bytes: int,
        cpu_seconds: int,
        log_bytes: int,
        walls: Walls | None,
        silence_seconds: float | None = None,
    ) -> None:
        """Start an engine on `folder`, in that folder.

        `file_bytes` bounds each file that it writes, `cpu_seconds` the processor time of each of its processes,
        `log_bytes` what is kept of its output in log.txt, which is made anew. `walls` are what it may reach; None for
        everything. When nobody has called `wait` for `silence_seconds`, it is killed by its launcher: this process is
        frozen. Raises OSError when no process can be started, or the log cannot be made.
        """
        self._starter = starter
        # What was there before is not ours to sweep.
        self._before = frozenset(psutil.Process().children(recursive=True))
        (folder / "tmp").mkdir(exist_ok=True)
        kept_log = _make_log(folder / LOG_FILE)
        their_signs, signs = os.pipe()
        self._signs = open(signs, "wb", buffering=0)  # noqa: SIM115, PTH123  # closed by `end`
        output, their_output = os.pipe()
        try:
            self._started = starter.start(
                folder,
                environment=environment,
                terms=Terms(file_bytes, _OPEN_FILES, cpu_seconds, silence_seconds, walls),
                signs=their_signs,
                output=their_output,
            )
        except OSError:
            self._signs.close()
            os.close(output)
            os.close(kept_log)
            raise
        finally:
            os.close(their_signs)
            os.close(their_output)
        os.set_blocking(self._signs.fileno(), False)
        self._log = threading.Thread(
            target=_keep_log, args=(output, kept_log, log_bytes), name="engine log", daemon=True
        )
        self._log.start()

    @property
    def pid(self) -> int | None:
        """Process id of the launcher, the top of the tree; None before there is one."""
        return self._started.pid

    def wait(self, timeout: float) -> int | None:
        """The exit code (see launch.py), or None when it still runs after `timeout` seconds."""
        if not self._signs.closed:
            # A full pipe has signs enough in it, and a broken one nobody to see them.
            with suppress(BlockingIOError, BrokenPipeError):
                self._signs.write(b".")
        return self._started.wait(timeout)

    def tree(self) -> list[psutil.Process]:
        """The launcher and every process below it."""
        if (pid := self.pid) is None:
            return []
        try:
            top = psutil.Process(pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Kill it and everything that it started, if it still runs. When this returns nothing of it is left."""
        if self.wait(0) is None:
            self._started.tell_to_end()
        if self.wait(PATIENCE_SECONDS) is None:
            for process in self.tree():
                _kill(process)
            self._started.kill()
        self._started.release()
        # Only when the launcher itself was killed is there anything left; then it came to us (see worker.__main__).
        while left := self._left():
            for process in left:
                _kill(process)
            psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
        self._log.join(PATIENCE_SECONDS)
        self._signs.close()

    def _left(self) -> list[psutil.Process]:
        found = set(psutil.Process().children(recursive=True)) - self._before
        return [process for process in found if process.pid not in self._starter.kept and not _is_anothers(process)]


def _is_anothers(process: psutil.Process) -> bool:
    """Whether it is dead, and not ours to reap."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _make_log(path: Path) -> int:
    """A descriptor to write an empty log by. Raises OSError.

    To be called before the engine starts: it may write in the folder too, and could lay a link of that name that leads
    out of it.
    """
    path.unlink(missing_ok=True)  # of an earlier engine in this folder
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _keep_log(pipe: int, kept: int, limit: int) -> None:
    """Copy the engine's output to its log up to `limit` bytes, and drop the rest so that it never blocks."""
    room, is_cut = limit - len(_CUT), False
    with open(pipe, "rb", buffering=0) as output, open(kept, "wb", buffering=0) as log:
        while piece := output.read(_PIECE_BYTES):
            try:
                if len(piece) <= room:
                    log.write(piece)
                elif not is_cut:
                    is_cut = True
                    log.write(piece[:room] + _CUT)
            except OSError:
                is_cut, room = True, 0  # a full disk ends the log, not the job's output
            room = max(0, room - len(piece))
