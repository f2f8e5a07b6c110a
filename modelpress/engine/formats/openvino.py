"""The artifact `model.openvino.zip`: the network as OpenVINO's intermediate representation (IR), for Intel's hardware.

An IR is two files, `model.xml` with the graph and `model.bin` with the weights; they lie side by side in a zip without
compression, from which OpenVINO reads them without unpacking. Made of the fp32 file `model.onnx`, with the same input
and output. Weights stay fp32. What they are computed in is up to who compiles the network: on processors that can,
OpenVINO takes bfloat16 by default, which keeps eight bits of each factor, so the proof and the model card ask for fp32.

Needs the extra `openvino`.
"""

from __future__ import annotations

import importlib
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modelpress.engine.formats.exporting import exporting

_GRAPH, _WEIGHTS = "model.xml", "model.bin"
# The first that a zip can tell; any other would make two files of the same network differ.
_DATE = (1980, 1, 1, 0, 0, 0)


def convert(source: Path, path: Path) -> None:
    """Write the IR of the fp32 ONNX file `source` to `path`. The same source always gives the same bytes.

    Raises IncompatibleSpec when OpenVINO cannot read it, and OutOfMemory.
    """
    advice = "leave out the artifact `openvino`"
    with tempfile.TemporaryDirectory(prefix="openvino-") as folder, exporting("OpenVINO", advice):
        openvino = _openvino()
        model = openvino.Core().read_model(str(source))
        _number(model)
        openvino.save_model(model, str(Path(folder) / _GRAPH), compress_to_fp16=False)
        with zipfile.ZipFile(path, "w") as archive:
            for name in (_GRAPH, _WEIGHTS):
                with (Path(folder) / name).open("rb") as file, archive.open(_entry(name), "w") as entry:
                    while block := file.read(2**20):
                        entry.write(block)


def open_file(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """What runs the file on the CPU in fp32 with so many threads: images (N, C, H, W) to outputs (N, classes)."""
    openvino = _openvino()
    with zipfile.ZipFile(path) as archive:
        model = openvino.Core().read_model(archive.read(_GRAPH), archive.read(_WEIGHTS))
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        # Otherwise it would take a core for itself that others in this process compute on too.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.compile_model(model, "CPU", options)

    def run(images: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = compiled(images)[0]
        return outputs

    return run


def _openvino() -> Any:
    return importlib.import_module("openvino")


def _number(model: Any) -> None:
    """Name the nodes by their place in the graph where OpenVINO names them by a count over the whole process."""
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = 0o644 << 16  # what unpacked files are readable by
    return entry
