"""The 8-bit file against the arithmetic that it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from modelpress.engine.formats import onnx as fp32
from modelpress.engine.formats.onnx_int8 import quantize
from modelpress.engine.runtimes import open_session, run_session
from tests.support.networks import describe, network

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(8, *SHAPE, generator=draw) for _ in range(3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, images: list[Tensor]) -> tuple[Path, Path]:
    """A ResNet in fp32 and in 8 bits."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    fp32.write(network(describe("resnet20_cifar")), folder / "model.onnx")
    quantize(folder / "model.onnx", folder / "model.int8.onnx", images)
    return folder / "model.onnx", folder / "model.int8.onnx"


def test_every_weight_is_within_half_a_step(files: tuple[Path, Path]) -> None:
    """Independently of the library that made the file: w - q * scale, scale by output channel."""
    exact, rounded = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer} for path in files
    )
    compared = 0
    for name, weight in exact.items():
        if weight.ndim < 2 or f"{name}_quantized" not in rounded:
            continue
        steps, scale = rounded[f"{name}_quantized"], rounded[f"{name}_scale"]
        assert steps.dtype == np.int8
        assert np.abs(steps.astype(int)).max() <= 64  # so that no processor's 16-bit sums overflow
        axis = 0 if scale.size == weight.shape[0] else 1
        by_channel = scale.reshape([-1 if dimension == axis else 1 for dimension in range(weight.ndim)])
        assert np.all(np.abs(weight - steps * by_channel) <= by_channel * 0.5001)
        compared += 1
    assert compared == 20  # nineteen convolutions and a linear layer


def test_outputs_come_close_and_the_batch_is_free(files: tuple[Path, Path], images: list[Tensor]) -> None:
    exact, rounded = (run_session(open_session(path), images[0].numpy()) for path in files)
    assert np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(rounded - exact).max() > 0
    one = run_session(open_session(files[1]), images[0][:1].numpy())
    np.testing.assert_allclose(one, rounded[:1], atol=0.02 * np.abs(exact).max())


def test_the_file_is_about_a_quarter_and_names_no_machine(files: tuple[Path, Path]) -> None:
    exact, rounded = (path.stat().st_size for path in files)
    assert rounded < 0.3 * exact
    content = files[1].read_bytes()
    assert str(files[1].parent).encode() not in content
    assert b"/" + b"tmp" not in content


def test_the_same_input_gives_the_same_bytes(files: tuple[Path, Path], images: list[Tensor], tmp_path: Path) -> None:
    quantize(files[0], tmp_path / "again.onnx", images)
    assert (tmp_path / "again.onnx").read_bytes() == files[1].read_bytes()


def test_ranges_come_from_the_images(files: tuple[Path, Path], images: list[Tensor], tmp_path: Path) -> None:
    """The input's step is the range of the images, with zero in it, over 255."""
    graph = onnx.load(files[1]).graph
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (first,) = (node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == fp32.INPUT)
    pixels = torch.cat(images)
    assert float(scales[first.input[1]]) == pytest.approx(float(pixels.max() - pixels.min()) / 255, rel=1e-5)
