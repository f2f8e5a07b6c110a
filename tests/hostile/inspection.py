"""The corpus sent through the inspector, which is started again behind a file that it did not survive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.hostile_file import HostileFile

# No file may keep a reader busy for so long, seconds. On an idle machine none takes a tenth of it.
PATIENCE_SECONDS = 60.0
# What a reader says of a stranger's file; anything else is a defect of ours.
TYPED = ("invalid_model", "invalid_dataset")


@dataclass(frozen=True)
class Inspected:
    """What came of one file."""

    name: str
    faults: tuple[str, ...]  # empty where all is as it should be
    seconds: float


def inspect(files: Iterable[HostileFile], folder: Path) -> list[Inspected]:
    """Send all through; `folder` is empty and holds everything that is written."""
    work = folder / "work"
    (work / "files").mkdir(parents=True)
    waiting: list[HostileFile] = []
    for number, file in enumerate(files):
        (work / "files" / str(number)).write_bytes(file.content)
        waiting.append(HostileFile(file.name, file.door, b"", file.may_be_taken))
    results: dict[int, dict[str, Any]] = {}
    while len(results) < len(waiting):
        left = [number for number in range(len(waiting)) if number not in results]
        lines = (json.dumps({"number": number, "door": waiting[number].door}) for number in left)
        (work / "files.jsonl").write_text("\n".join(lines))
        ended = _run(work, len(left))
        found = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
        (work / "results.jsonl").unlink()
        results |= {result["number"]: result for result in found}
        if len(found) < len(left):
            number = left[len(found)]
            results[number] = {"looks": [], "seen": [ended], "seconds": PATIENCE_SECONDS}
    inspected = [
        Inspected(file.name, tuple(_faults(file, results[number])), results[number]["seconds"])
        for number, file in enumerate(waiting)
    ]
    expected = {work, *(work / name for name in ("files", "files.jsonl", "output.txt", "cwd"))}
    strays = [path for path in folder.rglob("*") if path.parent != work / "files" and path not in expected]
    return [*inspected, Inspected("the folder", tuple(map(str, strays)), 0.0)]


def _faults(file: HostileFile, result: dict[str, Any]) -> Iterable[str]:
    yield from result["seen"]
    for verdict, words in result["looks"]:
        if verdict == "broken":
            yield words
        elif verdict == "taken" and not file.may_be_taken:
            yield "it was taken"
        elif verdict == "refused" and not words.startswith(TYPED):
            yield words


def _run(work: Path, count: int) -> str:
    """One inspector, ended when it makes no progress; how it ended."""
    (work / "cwd").mkdir(exist_ok=True)
    (work / "results.jsonl").touch()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.hostile.inspector", str(work)]
    with (
        (work / "output.txt").open("wb") as output,
        subprocess.Popen(command, cwd=work / "cwd", env=environment, stdout=output, stderr=output) as process,
    ):
        seen, since = -1, time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            now = (work / "results.jsonl").stat().st_size
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE_SECONDS:
                process.kill()
                return f"it kept the reader busy for more than {PATIENCE_SECONDS:g} s"
    if process.returncode == 0 and (work / "results.jsonl").read_text().count("\n") == count:
        return ""
    if not (work / "results.jsonl").read_text() and process.returncode > 0:
        raise RuntimeError((work / "output.txt").read_text()[-3000:])
    return f"it ended the reader with code {process.returncode}: {(work / 'output.txt').read_text()[-500:]}"
