"""One engine process: started without credentials and under limits, ended with everything that it started.

worker -- launch.py (own session, kills all below when it ends) -- engine -- whatever the engine starts
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

import modelpress
from modelpress.spec.task import LOG_FILE
from service import launch
from service.jail.walls import Walls

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
        # Else torch's threads wait for each other in busy loops, and a training beside any other work takes many times
        # as long.
        "OMP_WAIT_POLICY": "passive",
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
        command: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str],
        file_bytes: int,
        cpu_seconds: int,
        log_bytes: int,
        walls: Walls | None,
        silence_seconds: float | None = None,
    ) -> None:
        """Start `command` with `folder` as its last argument, in that folder.

        `file_bytes` bounds each file that it writes, `cpu_seconds` the processor time of each of its processes,
        `log_bytes` what is kept of its output in log.txt. `walls` are what it may reach; None for everything. When
        nobody has called `wait` for `silence_seconds`, it is killed by its launcher: this process is frozen.
        Raises OSError when no process can be started.
        """
        # What was there before is not ours to sweep.
        self._before = frozenset(psutil.Process().children(recursive=True))
        (folder / "tmp").mkdir(exist_ok=True)
        self._process = subprocess.Popen(  # noqa: S603  # the command is the operator's own, from the settings
            [
                *(sys.executable, "-I", "-S", launch.__file__),
                *(
                    "--parent",
                    str(os.getpid()),
                    "--file-bytes",
                    str(file_bytes),
                    "--open-files",
                    str(_OPEN_FILES),
                    "--cpu-seconds",
                    str(cpu_seconds),
                ),
                *(() if walls is None else ("--walls", walls.write())),
                *(() if silence_seconds is None else ("--silence-seconds", str(silence_seconds))),
                "--",
                *(*command, str(folder)),
            ],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        assert self._process.stdout is not None  # noqa: S101
        os.set_blocking(self._process.stdin.fileno(), False)
        self._log = threading.Thread(
            target=_keep_log,
            args=(self._process.stdout, folder / LOG_FILE, log_bytes),
            name="engine log",
            daemon=True,
        )
        self._log.start()

    @property
    def pid(self) -> int:
        """Process id of the launcher, the top of the tree."""
        return self._process.pid

    def wait(self, timeout: float) -> int | None:
        """The exit code (see launch.py), or None when it still runs after `timeout` seconds."""
        self._give_sign_of_life()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _give_sign_of_life(self) -> None:
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        # A full pipe has signs enough in it, and a broken one nobody to see them.
        with suppress(BlockingIOError, BrokenPipeError):
            self._process.stdin.write(b".")

    def tree(self) -> list[psutil.Process]:
        """The launcher and every process below it."""
        try:
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Kill it and everything that it started, if it still runs. When this returns nothing of it is left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        if self.wait(PATIENCE_SECONDS) is None:
            for process in self.tree():
                _kill(process)
            self._process.wait()
        # Only when the launcher itself was killed is there anything left; then it came to us (see worker.__main__).
        while left := set(psutil.Process().children(recursive=True)) - self._before:
            for process in left:
                _kill(process)
            psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
        self._log.join(PATIENCE_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _keep_log(pipe: IO[bytes], path: Path, limit: int) -> None:
    """Copy the engine's output to its log up to `limit` bytes, and drop the rest so that it never blocks."""
    room, is_cut = limit - len(_CUT), False
    with pipe, path.open("wb", buffering=0) as log:
        while piece := os.read(pipe.fileno(), _PIECE_BYTES):
            try:
                if len(piece) <= room:
                    log.write(piece)
                elif not is_cut:
                    is_cut = True
                    log.write(piece[:room] + _CUT)
            except OSError:
                is_cut, room = True, 0  # a full disk ends the log, not the job's output
            room = max(0, room - len(piece))
