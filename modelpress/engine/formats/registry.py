"""The files that a network can be written as.

To add one: a file beside this one with a `write` (or a `quantize`), a line here, and its kind and facts in
`modelpress.spec.job`. State dicts that users bring are read by `state_dict.READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from modelpress.engine.formats import compact, onnx, onnx_int8, pt2, safetensors
from modelpress.engine.network import Network
from modelpress.spec.job import ArtifactKind

WRITERS: dict[ArtifactKind, Callable[[Network, Path], None]] = {
    ArtifactKind.COMPACT: compact.write,
    ArtifactKind.SAFETENSORS: safetensors.write,
    ArtifactKind.PT2: pt2.write,
    ArtifactKind.ONNX: onnx.write,
}
"""Each writes a network to a path, and raises a CompressionError when it cannot be written so."""

QUANTIZERS: dict[ArtifactKind, Callable[[Path, Path, list[Tensor]], None]] = {
    ArtifactKind.ONNX_INT8: onnx_int8.quantize,
}
"""Each makes, of the fp32 ONNX file, a file that computes in fewer bits; its ranges come from batches of images."""
