"""An engine that behaves as its first argument says: `python scripted_engine.py BEHAVIOUR [ARGUMENT] FOLDER`.

It needs the standard library alone, so that it starts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def emit(folder: Path, event: object) -> None:
    """Append one event."""
    with (folder / "events.jsonl").open("a") as file:
        file.write((event if isinstance(event, str) else json.dumps(event)) + "\n")


def say(text: str) -> None:
    """Print."""
    sys.stdout.write(text + "\n")


def progress(fraction: float) -> dict[str, object]:
    """A progress event."""
    return {"kind": "progress", "stage": "step", "step": 0, "steps": 1, "step_kind": "prune", "fraction": fraction}


def finish(folder: Path, template: str) -> None:
    """Leave two artifacts and a report made of the one at `template`, with their proofs."""
    emit(folder, progress(0.1))
    emit(folder, {"kind": "warning", "message": "half way"})
    emit(folder, progress(0.9))
    report = json.loads(Path(template).read_text())
    (folder / "artifacts").mkdir()
    report["proofs"] = []
    for kind, name in (("compact", "model.mpz"), ("safetensors", "model.safetensors")):
        content = f"{kind} of {folder.name}".encode()
        (folder / "artifacts" / name).write_bytes(content)
        proof = {"kind": kind, "file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        report["proofs"].append({**proof, "largest_difference": 0.0, "tolerance": 1e-5})
    (folder / "report.json").write_text(json.dumps(report))
    say("all done")


def succeed(folder: Path, template: str) -> None:
    """Do the task."""
    finish(folder, template)


def miss_goal(folder: Path, template: str) -> None:
    """Come to the end, but not to the goal."""
    finish(folder, template)
    (folder / "failure.json").write_text(json.dumps({"kind": "goal_not_met", "message": "0.9 is less than 0.95"}))
    sys.exit(1)


def swap_artifact(folder: Path, template: str) -> None:
    """Change a file after it was proven."""
    finish(folder, template)
    (folder / "artifacts" / "model.mpz").write_bytes(b"another")


def link_artifact(folder: Path, template: str) -> None:
    """Put a link that leads out of the work folder in the place of a file."""
    finish(folder, template)
    (folder / "artifacts" / "model.mpz").unlink()
    (folder / "artifacts" / "model.mpz").symlink_to(template)


def spawn(folder: Path, _: str) -> None:
    """Start a child, a grandchild in a session of its own, and work for ever; note its process id in `pids`."""
    code = (
        "import os, subprocess, sys, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    )
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    emit(folder, progress(0.5))
    time.sleep(600)


def leave_orphan(folder: Path, template: str) -> None:
    """Do the task, and leave a process in a session of its own behind."""
    subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
    finish(folder, template)


def die(folder: Path, _: str) -> None:
    """Be killed as by the kernel when memory ends."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder: Path, template: str) -> None:
    """Be killed in the first attempt at an inspection; in the next find what lies at `template`."""
    if folder.name.endswith("-1"):
        die(folder, template)
    (folder / "inspection.json").write_text(Path(template).read_text())


def crash(folder: Path, _: str) -> None:
    """End without a word."""
    say("last words")
    sys.exit(3)


def eat_memory(folder: Path, count: str) -> None:
    """Take so many bytes in a child, in the middle of a step, and hold them."""
    emit(folder, progress(0.5))
    code = f"x = b'x' * {count}; import time; time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(600)


def fill_disk(folder: Path, count: str) -> None:
    """Write so many bytes, in small files."""
    for number in range(int(count) // (1 << 20)):
        (folder / f"piece{number}").write_bytes(os.urandom(1 << 20))
    time.sleep(600)


def babble(folder: Path, template: str) -> None:
    """Say things that are no events among some that are; then do the task."""
    emit(folder, "{not json")
    emit(folder, {"kind": "state", "state": "succeeded", "attempt": 1})
    emit(folder, {"kind": "warning", "message": "x" * (1 << 20)})
    emit(folder, {"kind": "warning", "message": "zero \x00 inside"})
    emit(folder, {"kind": "warning", "message": "true words"})
    finish(folder, template)


def shout(folder: Path, template: str) -> None:
    """Print more than anybody wants to read; then do the task."""
    for _ in range(200):
        say("y" * 10_000)
    finish(folder, template)


def show_inputs(folder: Path, template: str) -> None:
    """Print the task, and the hash of each file in `inputs` by its place in the folder; then do the task."""
    say((folder / "task.json").read_text())
    files = sorted((folder / "inputs").iterdir())
    say(json.dumps({f"inputs/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}))
    finish(folder, template)


def show(folder: Path, template: str) -> None:
    """Print what it was given; then do the task."""
    say(json.dumps({"environment": dict(os.environ), "folder": str(folder), "cwd": str(Path.cwd())}))
    say(
        json.dumps(
            {"descriptors": sorted(entry.name for entry in Path("/proc/self/fd").iterdir()), "session": os.getsid(0)}
        )
    )
    say((folder / "task.json").read_text())
    finish(folder, template)


def train(folder: Path, template: str) -> None:
    """Leave a checkpoint of a training and work for ever; or go on from one: print it, and do the task."""
    files = {part: folder / "checkpoint" / f"{part}.safetensors" for part in ("steps", "training")}
    if found := {part: path.read_text() for part, path in files.items() if path.exists()}:
        say(json.dumps(found))
        finish(folder, template)
        return
    (folder / "checkpoint").mkdir()
    keep(folder, "steps", "none")
    keep(folder, "training", "first")
    emit(folder, {**progress(0.4), "epoch": 1, "epochs": 9})
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not (folder / "checkpoint_wanted").exists():
        time.sleep(0.01)
    keep(folder, "training", "last")
    time.sleep(600)


def keep(folder: Path, part: str, content: str) -> None:
    """Leave a file of a checkpoint that says which attempt made it, and tell of it."""
    keep_text(folder, part, f"{content} of {folder.name}")


def keep_text(folder: Path, part: str, text: str) -> None:
    """Leave a file of a checkpoint, and tell of it."""
    path = folder / "checkpoint" / f"{part}.safetensors"
    path.with_suffix(".partial").write_text(text)
    path.with_suffix(".partial").rename(path)
    emit(folder, {"kind": "checkpoint", "part": part})


def take_steps(folder: Path, template: str) -> None:
    """Print what was reused, do the steps that are left, keep what each of them made; then do the task."""
    task, reused = json.loads((folder / "task.json").read_text()), folder / "reused.safetensors"
    content = reused.read_text() if reused.exists() else ""
    say(json.dumps({"from": task["reused_from"], "content": content}))
    (folder / "checkpoint").mkdir()
    kinds = [step["kind"] for step in task["recipe"]["steps"]]
    begun = content.count("+")
    for count in range(begun, len(kinds)):
        content += f"+{kinds[count]} of {folder.name}"
        path = folder / "checkpoint" / "steps.safetensors"
        path.write_text(content)
        told = hashlib.sha256(content.encode()).hexdigest()
        emit(folder, {"kind": "checkpoint", "part": "steps", "steps": count + 1, "sha256": told})
        # The worker keeps the newest of those that it has heard of.
        time.sleep(0.6)
    finish(folder, template)


def train_and_die(folder: Path, template: str) -> None:
    """Leave a checkpoint the first time; be killed each time."""
    (folder / "checkpoint").mkdir(exist_ok=True)
    keep(folder, "steps", "none")
    die(folder, template)


def chain(folder: Path, script: str) -> None:
    """Train as the recipe says, where an epoch is a link of a chain of hashes: what comes out tells each one's turn.

    `script` is a file of JSON: `epoch_seconds`, `artifact_bytes` of each file that is made, and the `report` to fill.
    An epoch that was left out, done twice or done upon another job's checkpoint gives other files and other figures.
    """
    play = json.loads(Path(script).read_text())
    task = json.loads((folder / "task.json").read_text())
    steps = task["recipe"]["steps"]
    begin = link(*(task[name]["sha256"] for name in ("model", "dataset")), task["recipe"]["seed"])
    files = {part: folder / "checkpoint" / f"{part}.safetensors" for part in ("steps", "training")}
    found = {part: json.loads(path.read_text()) for part, path in files.items() if path.exists()}
    (folder / "checkpoint").mkdir(exist_ok=True)
    done: list[str] = found.get("steps", [])  # the last link of each completed step
    training = found.get("training", {})
    for step in range(len(done), len(steps)):
        state, first = done[-1] if done else begin, 1
        if training.get("step") == step:  # that of another step is of no use any more
            state, first = training["state"], training["epoch"] + 1
        epochs = steps[step]["training"]["epochs"]
        for epoch in range(first, epochs + 1):
            emit(
                folder,
                {**progress((step + epoch / epochs) / len(steps)), "step": step, "steps": len(steps)}
                | {"epoch": epoch, "epochs": epochs, "metrics": {"loss": 1 / epoch}},
            )
            rest(folder, play["epoch_seconds"], lambda: keep_text(folder, "training", json.dumps(training)))  # noqa: B023
            state = link(state, step, epoch)
            training = {"step": step, "epoch": epoch, "state": state}
            keep_text(folder, "training", json.dumps(training))
        done = [*done, state]
        keep_text(folder, "steps", json.dumps(done))
    fill(folder, play, task, done)


def link(*parts: object) -> str:
    """The hash of these things, in this order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def rest(folder: Path, seconds: float, keep_last: Callable[[], None]) -> None:
    """Take so long, and leave a checkpoint once where one is asked for meanwhile."""
    end, is_kept = time.monotonic() + seconds, False
    while (left := end - time.monotonic()) > 0:
        if not is_kept and (folder / "checkpoint_wanted").exists():
            keep_last()
            is_kept, end = True, end + 60  # whoever asked ends this process
        time.sleep(min(left, 0.02))


def fill(folder: Path, play: dict[str, Any], task: dict[str, Any], links: list[str]) -> None:
    """Leave files and a report whose figures are made of these links, one a step."""
    report = play["report"]
    (folder / "artifacts").mkdir()
    report["proofs"] = []
    for kind, name in (("compact", "model.mpz"), ("safetensors", "model.safetensors")):
        content = (link(kind, links[-1]).encode() * (play["artifact_bytes"] // 64 + 1))[: play["artifact_bytes"]]
        (folder / "artifacts" / name).write_bytes(content)
        proof = {"kind": kind, "file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        report["proofs"].append({**proof, "largest_difference": 0.0, "tolerance": 1e-5})
    stage = report["stages"][0]
    report["stages"] = [
        {**stage, "index": index, "measurement": {**stage["measurement"], "nonzero_parameters": int(one[:8], 16)}}
        for index, one in enumerate(links)
    ]
    report["final"]["nonzero_parameters"] = int(links[-1][:8], 16)
    report["provenance"] |= {"model_sha256": task["model"]["sha256"], "recipe": task["recipe"]}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    behaviour, argument, work = sys.argv[1:]
    globals()[behaviour](Path(work), argument)
