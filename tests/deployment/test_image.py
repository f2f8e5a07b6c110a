"""What the images are built from: the Dockerfile's stages, the extras that it installs, and the wheel they come to.

The build itself needs a Docker engine and is not tested here.
"""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deployment.compose import ROOT, read_env, read_services

DOCKERFILE = (ROOT / "Dockerfile").read_text()
DOCKERIGNORE = (ROOT / ".dockerignore").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
ROOMS: list[str] = PYPROJECT["tool"]["importlinter"]["root_packages"]


def closure(*extras: str) -> set[str]:
    """Names of every distribution that installing `modelpress[extras]` brings, by what is installed here."""
    lines: list[str] = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found: set[str] = set()
    open_ends = [(Requirement(line), frozenset[str]()) for line in lines]
    seen = set()
    while open_ends:
        requirement, asked = open_ends.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        marker = requirement.marker
        wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in asked or {""})
        key = (name, frozenset(requirement.extras))
        if not wanted or key in seen:
            continue
        seen.add(key)
        found.add(name)
        try:
            open_ends += [(Requirement(line), key[1]) for line in requires(name) or []]
        except PackageNotFoundError:  # of another platform
            continue
    return found


def test_the_api_image_has_no_torch() -> None:
    assert "pip install '.[server]'" in stage("api-build")
    server = closure("server")
    assert {"fastapi", "sqlalchemy", "celery", "psycopg-binary", "obstore"} <= server
    assert server & {"torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "numpy", "scikit-learn"} == set()


def test_the_worker_image_has_torch() -> None:
    assert "'.[server,engine]'" in stage("worker-build")
    worker = closure("server", "engine")
    assert {"torch", "torchvision", "onnxruntime", "celery", "obstore"} <= worker


def test_the_client_alone_is_small() -> None:
    client = closure()
    assert {"httpx", "pydantic", "typer"} <= client
    assert client & {"torch", "numpy", "fastapi", "sqlalchemy", "celery"} == set()


def stage(name: str) -> str:
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def test_every_room_is_in_the_images() -> None:
    assert set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, flags=re.MULTILINE)) == set(ROOMS)
    assert {line[1:] for line in DOCKERIGNORE.splitlines() if line.startswith("!")} >= set(ROOMS)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_the_images_do_not_run_as_root(target: str) -> None:
    assert "USER modelpress" in stage(target)
    assert "--uid 10001" in stage("base")
    assert 'ENTRYPOINT ["tini", "--"]' in stage("base")


def test_compose_builds_stages_that_there_are(env_file: Path) -> None:
    for service in read_services(read_env(env_file)).values():
        if "build" in service:
            stage(service["build"]["target"])


def test_the_wheel_holds_the_rooms_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    kept = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == kept
