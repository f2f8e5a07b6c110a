"""Latencies: their order where it is known, and that a session computes what its graph says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from modelpress.engine.latency import (
    large_batch,
    measure_latency,
    take_turns,
    torch_contender,
)


def _linear_onnx(path: Path, width: int, layers: int) -> np.ndarray:
    """A chain of `layers` square matrix products; returns the one matrix."""
    matrix = np.random.default_rng(1).standard_normal((width, width)).astype(np.float32) / width**0.5
    names = ["x", *[f"h{index}" for index in range(layers - 1)], "y"]
    nodes = [helper.make_node("MatMul", [names[index], "w"], [names[index + 1]]) for index in range(layers)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor("w", TensorProto.FLOAT, matrix.shape, matrix.tobytes(), raw=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return matrix


def test_latency_of_files_that_take_turns(tmp_path: Path) -> None:
    _linear_onnx(tmp_path / "large.onnx", 256, 60)
    _linear_onnx(tmp_path / "small.onnx", 256, 2)
    large, small = measure_latency([tmp_path / "large.onnx", tmp_path / "small.onnx"], (256,), seconds=0.05)
    assert large.p50_ms > small.p50_ms > 0
    assert large.p90_ms >= large.p50_ms
    assert (small.runtime, small.threads, small.batch) == ("onnxruntime", 1, 1)


def test_latency_in_pytorch_has_the_threads_it_names() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    class Watched(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().forward(images)

    deep = nn.Sequential(*[Watched(512, 512) for _ in range(30)])
    shallow = Watched(512, 512)
    slow, fast = take_turns([torch_contender(deep), torch_contender(shallow)], (512,), threads=1, seconds=0.05)
    assert slow.p50_ms > fast.p50_ms > 0
    assert (slow.runtime, slow.precision, slow.threads, slow.batch) == ("pytorch", "fp32", 1, 1)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_a_module_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    (batch,) = take_turns([torch_contender(module)], (4,), batch=8, seconds=0.01)
    assert module.training
    assert module[1].training
    assert batch.batch == 8


def test_a_large_batch_is_smaller_for_larger_images() -> None:
    assert [large_batch((3, side, side)) for side in (32, 224, 1024)] == [32, 5, 2]
