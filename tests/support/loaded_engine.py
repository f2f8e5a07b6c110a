"""The engine itself, which first tells in FOLDER/loaded.json what its process was given by the zygote."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

import torch

from modelpress.engine import __main__ as engine

AT_IMPORT = {
    "cuda": torch.cuda.is_initialized(),
    "drivers": [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcuda.so" in line],
    "threads": [thread.name for thread in threading.enumerate()],
    "open": sorted(path.name for path in Path("/proc/self/fd").iterdir() if path.exists()),
    "temporary": tempfile.tempdir,
}


def main(arguments: list[str]) -> int:
    """Tell, then be the engine."""
    now = {"cuda": torch.cuda.is_initialized(), "threads": len([*Path("/proc/self/task").iterdir()])}
    (Path(arguments[0]) / "loaded.json").write_text(json.dumps({"at_import": AT_IMPORT, "now": now}))
    return engine.main(arguments)
