"""The artifact `model.int8.onnx`: the network as an ONNX graph that computes in 8 bits (static QDQ).

Made of the fp32 file `model.onnx`, with the same input and output. Weights take signed steps, a scale for each output
channel; activations take unsigned steps between the least and the largest value that the calibration images gave them
(Jacob et al. 2018, arXiv 1712.05877). Around each operator stand QuantizeLinear and DequantizeLinear, which runtimes
fuse into integer kernels.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from modelpress.engine.formats.exporting import exporting
from modelpress.engine.formats.onnx import INPUT

# Operators with integer kernels, and those that pass integers on. What is left computes in fp32 between them.
_QUANTIZED = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Relu",
    "Reshape",
    "Transpose",
)


def quantize(source: Path, path: Path, batches: list[Tensor]) -> None:
    """Write the 8-bit file of the fp32 ONNX file `source` to `path`.

    `batches` are normalised fp32 images (B, C, H, W) that the ranges of the activations are taken from. The same
    source and images always give the same bytes. Raises IncompatibleSpec when the graph cannot be quantized, and
    OutOfMemory.
    """
    with (
        tempfile.TemporaryDirectory(prefix="int8-") as folder,
        _quiet(),
        exporting("8-bit ONNX", "leave out the artifact `onnx_int8`"),
    ):
        prepared = Path(folder) / "prepared.onnx"
        # Folds what follows a convolution into it, which could not be fused any more behind its rounded output.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Images(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            # Weights of 7 bits: processors without dot-product instructions add pairs of products of an unsigned and a
            # signed byte in 16 bits, which 255 x 127 twice would overflow without a word, and 255 x 64 does not.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Images(CalibrationDataReader):  # type: ignore[misc]  # untyped, as all of ONNX Runtime is
    """Batches, once each."""

    def __init__(self, batches: list[Tensor]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by the input's name; None behind the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice on its own options, which goes to the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
