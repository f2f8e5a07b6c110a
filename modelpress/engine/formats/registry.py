"""The files that a network can be written as.

To add one: a file beside this one with a `write` (or a `convert`, or a `quantize`), a line here, and its kind and facts
in `modelpress.spec.job`; what runs it, where that is no runtime yet, is a line in `modelpress.engine.runtimes`. State
dicts that users bring are read by `state_dict.READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from modelpress.engine.formats import compact, executorch, onnx, onnx_int8, openvino, pt2, safetensors
from modelpress.engine.network import Network
from modelpress.spec.job import ArtifactKind

WRITERS: dict[ArtifactKind, Callable[[Network, Path], None]] = {
    ArtifactKind.COMPACT: compact.write,
    ArtifactKind.SAFETENSORS: safetensors.write,
    ArtifactKind.PT2: pt2.write,
    ArtifactKind.ONNX: onnx.write,
    ArtifactKind.EXECUTORCH: executorch.write,
}
"""Each writes a network to a path, and raises a CompressionError when it cannot be written so."""

CONVERTERS: dict[ArtifactKind, Callable[[Path, Path], None]] = {
    ArtifactKind.OPENVINO: openvino.convert,
}
"""Each makes, of the fp32 ONNX file, a file that computes the same in another runtime."""

QUANTIZERS: dict[ArtifactKind, Callable[[Path, Path, list[Tensor]], None]] = {
    ArtifactKind.ONNX_INT8: onnx_int8.quantize,
}
"""Each makes, of the fp32 ONNX file, a file that computes in fewer bits; its ranges come from batches of images."""
