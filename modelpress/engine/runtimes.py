"""What runs exported files: each runtime opens a file with so many CPU threads, and no more, for a function of images.

PyTorch's own (`pytorch`, `torch_export`) run modules and are not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from modelpress.engine.formats import executorch, openvino
from modelpress.spec.job import Runtime

Run = Callable[[np.ndarray], np.ndarray]
"""From fp32 images (N, C, H, W), normalised, to outputs (N, classes)."""


def open_session(path: Path, threads: int = 1, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU with so many threads and no more.

    Without optimisations each operator computes by itself what the file says: quantized graphs then compute in fp32.
    """
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """Outputs (N, classes) of an ONNX model with one input and one output for fp32 images (N, C, H, W)."""
    outputs: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return outputs


def _open_onnx(path: Path, threads: int) -> Run:
    session = open_session(path, threads)
    return lambda images: run_session(session, images)


OPENERS: dict[Runtime, Callable[[Path, int], Run]] = {
    "onnxruntime": _open_onnx,
    "openvino": openvino.open_file,
    "executorch": executorch.open_file,
}
"""Each raises errors of its own, which have no common class, when the file is not one that it runs."""
