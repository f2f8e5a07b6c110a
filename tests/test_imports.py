"""Who may import whom, and what stays out of processes that must be light.

The directions themselves are import-linter's contracts in pyproject.toml; `make lint` checks them. Here: that the
contracts cover every room and would notice a breach, and what a fresh process really loads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_ROOMS = {"tests", "benchmarks", "demo"}  # they use the rooms and are part of no image

LIGHT = [
    "modelpress",
    "modelpress.spec.job",
    "modelpress.spec.check",
    "modelpress.client",
    "modelpress.client.cli",
    "storage.open_store",
    "db.database",
    "service.settings",
    "service.serve",
    "service.admin",
    "api.app",
    "worker.app",
]
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "scipy", "PIL"}


def loaded_by(module: str) -> set[str]:
    """Names of everything that a fresh process has loaded after importing one module."""
    code = f"import json, sys, {module}; json.dump(sorted(sys.modules), sys.stdout)"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)))


@pytest.mark.parametrize("module", LIGHT)
def test_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


@pytest.mark.parametrize("module", ["modelpress.spec.job", "modelpress.client"])
def test_a_client_needs_no_server_library(module: str) -> None:
    assert loaded_by(module) & {"fastapi", "sqlalchemy", "celery", "redis", "psycopg", "obstore", "uvicorn"} == set()


def test_the_engine_does_load_torch() -> None:
    # Without this, a wrong way of looking would let every test above pass.
    assert "torch" in loaded_by("modelpress.engine.network")


def test_every_room_is_under_contract() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_ROOMS
    assert set(PYPROJECT["tool"]["importlinter"]["root_packages"]) == rooms
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    bound = {source.partition(".")[0] for contract in contracts for source in contract["source_modules"]}
    assert bound == rooms


def test_only_tests_benchmarks_and_demo_import_api_or_worker() -> None:
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]:
        rooms = {source.partition(".")[0] for source in contract["source_modules"]}
        assert {"api", "worker"} - rooms <= set(contract["forbidden_modules"]), contract["name"]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter over the tree at `folder` with the project's contracts."""
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_the_contracts_are_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("modelpress/spec/job.py", "import torch", "the spec imports nothing of ours"),
        ("modelpress/engine/network.py", "import db.database", "the engine imports only the spec"),
        ("modelpress/client/client.py", "import modelpress.engine.network", "the client imports only the spec"),
        ("storage/local.py", "import modelpress.spec.job", "storage imports nothing of ours"),
        ("db/database.py", "import service.settings", "the database knows the spec alone"),
        ("service/settings.py", "import api.app", "the service room knows"),
        ("api/app.py", "import worker.app", "the API knows no engine, no worker"),
        ("worker/app.py", "import modelpress.engine.network", "the worker starts the engine as a process"),
    ],
)
def test_a_breach_is_noticed(path: str, line: str, contract: str, tmp_path: Path) -> None:
    for room in PYPROJECT["tool"]["importlinter"]["root_packages"]:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / path
    source.write_text(f"{source.read_text()}\n{line}\n")

    result = lint_imports(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    verdicts = [name for name in result.stdout.splitlines() if name.startswith(contract)]
    assert verdicts, result.stdout
    assert "BROKEN" in verdicts[0]
