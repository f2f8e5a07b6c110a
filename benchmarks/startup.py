"""The API's process: time to its first answer, memory it holds then, and that no torch is in it."""

from __future__ import annotations

import http.client
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.result import Figure, arguments, publish
from benchmarks.services import api_command
from db.database import open_database
from tests.support.free_port import free_port
from tests.support.processes import running, service_environment

SETTLE_SECONDS = 1.0


def first_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when /readyz answers 200."""
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the API ended with code {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            time.sleep(0.002)
        finally:
            connection.close()


def main() -> None:
    """Measure, write, print."""
    parser = arguments("startup", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    seconds, processor, megabytes, torch_files = [], [], [], 0
    with tempfile.TemporaryDirectory(prefix="modelpress-startup-") as name:
        folder = Path(name)
        database = open_database(f"sqlite:///{folder}/modelpress.db")
        database.migrate()
        database.dispose()
        for _ in range(options.rounds):
            port = free_port()
            begin = time.perf_counter()
            with running(api_command(port), service_environment(home=name), folder / "api.log") as process:
                first_answer(port, process)
                seconds.append(time.perf_counter() - begin)
                seen = psutil.Process(process.pid)
                times = seen.cpu_times()
                processor.append(times.user + times.system)
                time.sleep(SETTLE_SECONDS)
                megabytes.append(seen.memory_info().rss / 1e6)
                torch_files += sum("torch" in Path(each.path).name for each in seen.memory_maps())
    figures = [
        Figure("start to first answer", median(seconds), "s", at_most=2.0, samples=tuple(seconds)),
        Figure("processor time of it", median(processor), "s", samples=tuple(processor)),
        Figure("memory held (resident)", max(megabytes), "MB", at_most=150.0, samples=tuple(megabytes)),
        Figure("torch libraries mapped", torch_files, "files", at_most=0),
    ]
    conditions = {"rounds": options.rounds, "first round": "after the files were read once; no page cache was dropped"}
    publish(options.output, "Start of the API", conditions, figures)


if __name__ == "__main__":
    main()
