"""An environment for docker-compose.yml, made as an operator makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.compose import EXAMPLE_ENV, ROOT

# What the Dockerfile copies before it installs.
SOURCES = ("pyproject.toml", "README.md", "modelpress", "api", "worker", "db", "storage", "service")


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """A fresh .env."""
    path = tmp_path / ".env"
    subprocess.run([sys.executable, ROOT / "deploy/new_env.py", EXAMPLE_ENV, path], check=True)
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as the images install it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    [path] = target.glob("*.whl")
    return path
