"""What the API and the client import stays light: no torch, no numpy. Seen from a process of its own."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import modelpress.spec

HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxruntime",
    "safetensors",
    "PIL",
    "sqlalchemy",
    "celery",
    "fastapi",
)


def _loaded(*modules: str) -> list[str]:
    code = f"import json, sys\nimport {', '.join(modules)}\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name for name in json.loads(run.stdout) if name.split(".")[0] in HEAVY]


def test_the_package_loads_nothing_heavy() -> None:
    assert _loaded("modelpress") == []


def test_the_whole_spec_loads_nothing_heavy() -> None:
    modules = [f"modelpress.spec.{found.name}" for found in pkgutil.iter_modules(modelpress.spec.__path__)]
    assert "modelpress.spec.steps" in modules
    assert _loaded("modelpress", *modules) == []


def test_the_probe_itself_sees_a_heavy_module() -> None:
    assert "numpy" in _loaded("numpy")
