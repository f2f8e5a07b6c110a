"""No hostile file is carried out, ends its reader, or is refused without a reason.

A third of the corpus goes through the readers in one process that watches itself; one of each kind goes through what a
worker starts for an upload, the jail around the engine's own process. `make hostile` takes all of the corpus, and more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.task import DatasetFile, InspectDataset, InspectModel, ModelFile
from service.settings import Settings
from tests.hostile import good
from tests.hostile.corpus import KINDS, SEED, corpus
from tests.hostile.hostile_file import CANARY, HostileFile
from tests.hostile.inspection import inspect
from worker.child import Child, engine_environment
from worker.choose_starter import choose_starter
from worker.engine_run import read_failure
from worker.reach import walls_for
from worker.starter import Starter

# From each kind, in the engine's own process, which takes seconds to start.
_SAMPLED = 1
# Of each kind, in the process that watches itself; `make hostile` takes every one.
_EVERY = 3


@pytest.mark.slow
def test_a_third_of_the_corpus_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    found = inspect(islice(corpus(), 0, None, _EVERY), tmp_path)
    assert len(found) > 900
    assert {one.name: one.faults for one in found if one.faults} == {}


def test_it_is_the_same_for_the_same_seed() -> None:
    for kind in ("pickles", "headers", "damaged"):
        first, second = ([file.content for file in islice(KINDS[kind](SEED), 200)] for _ in range(2))
        assert first == second
        assert len(set(first)) > 100


def test_a_file_that_is_taken_is_noticed(tmp_path: Path) -> None:
    one, folder = inspect([HostileFile("no harm/at all", "model", good.safetensors())], tmp_path)
    assert one.faults == ("it was taken", "it was taken")
    assert folder.faults == ()


def test_a_payload_that_is_carried_out_is_noticed(tmp_path: Path) -> None:
    # Without this, a watch that sees nothing, or payloads that do nothing, would let everything pass.
    code = (
        "import pickle, sys; from pathlib import Path; from tests.hostile.inspector import Watch\n"
        "watch = Watch(Path.cwd()); sys.addaudithook(watch); payload = Path('payload').read_bytes()\n"
        "watch.is_armed = True; pickle.loads(payload); open('new', 'w'); open('/etc/hostname')\n"
        "watch.is_armed = False; print(*watch.seen, sep='\\n')"
    )
    (tmp_path / "payload").write_bytes(next(file.content for file in KINDS["pickles"](SEED)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert (tmp_path / CANARY).exists()
    assert [line.split()[0] for line in shown.splitlines()] == ["pickle.find_class", "os.system", "open", "open"]


def _sample() -> list[HostileFile]:
    files = [file for kind in KINDS.values() for file in _spread(list(kind(SEED)))]
    return [file for file in files if file.door != "artifact"]


def _spread(files: list[HostileFile]) -> list[HostileFile]:
    uploads = [file for file in files if file.door != "artifact" and not file.may_be_taken]
    return uploads[:: max(1, len(uploads) // _SAMPLED)][:_SAMPLED]


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """As a worker starts its engines."""
    with closing(choose_starter(Settings(home=tmp_path, threads=1))) as found:
        yield found


@pytest.mark.slow
def test_one_of_each_kind_in_the_jail(tmp_path: Path, starter: Starter) -> None:
    for number, file in enumerate(_sample()):
        folder = tmp_path / "work" / f"upload-{number}"
        (folder / "inputs").mkdir(parents=True)
        (folder / "inputs" / "upload").write_bytes(file.content)
        code = _inspect(starter, folder, file)
        failure = read_failure(folder, code)
        wanted = FailureKind.INVALID_DATASET if file.door == "dataset" else FailureKind.INVALID_MODEL
        assert (code, failure.kind) == (1, wanted), (file.name, failure, (folder / "log.txt").read_text()[-2000:])
        assert isinstance(failure, Failure)
        assert not list(folder.rglob(CANARY))
        made = {path.name for path in folder.iterdir()} - {"inputs", "task.json"}
        assert made <= {"tmp", ".cache", "log.txt", "failure.json"}  # .cache: libraries', in what is their home
    assert {path.name for path in tmp_path.iterdir()} == {"work"}


def _inspect(starter: Starter, folder: Path, file: HostileFile) -> int | None:
    if file.door == "model":
        form = "pt" if file.content[:2] == b"PK" else "safetensors"
        model = ModelFile(path="inputs/upload", format=form, architecture=good.ARCHITECTURE, sha256="0" * 64)
        task: InspectModel | InspectDataset = InspectModel(model=model)
    elif file.door == "graph":
        exported = "pt2" if file.content[:2] == b"PK" else "onnx"
        task = InspectModel(model=ModelFile(path="inputs/upload", format=exported, sha256="0" * 64))
    else:
        task = InspectDataset(dataset=DatasetFile(path="inputs/upload", sha256="0" * 64))
    (folder / "task.json").write_text(task.model_dump_json())
    child = Child(
        starter,
        folder,
        environment=engine_environment(folder, threads=1),
        file_bytes=1 << 20,
        cpu_seconds=60,
        log_bytes=1 << 16,
        walls=walls_for(folder, None, Settings(home=folder.parents[1])),
    )
    try:
        return child.wait(60)
    finally:
        child.end()
