"""ONNX models as exporters write them: what ONNX Runtime gives, from layers of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelpress.engine.graphs.onnx import reader
from modelpress.spec.failure import InvalidModel
from tests.support.exported import Photographer, trained
from tests.support.onnx_files import export, network_of, weights, write


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_exporters_of_torch(exporter: str, tmp_path: Path) -> None:
    module = trained(Photographer())
    network = network_of(export(module, tmp_path / "model.onnx", torch.randn(2, 1, 8, 8), exporter))
    layers = {name: type(layer).__name__ for name, layer in network.named_modules()}
    wanted = {"stem": "Conv2d", "body.0.first": "Conv2d", "body.2": "Conv2d", "head": "Linear"}
    assert {name: layers.get(name) for name in wanted} == wanted
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module(images))


class Scores(nn.Module):
    """Attention written out, with its shapes asked for at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, c, h * w).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).view(n, h * w, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        attended = (q @ k.transpose(-2, -1) / 2.0).softmax(-1) @ v
        return self.out(attended.transpose(1, 2).reshape(n, h * w, c).mean(1))


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_shapes_that_are_computed_are_followed(exporter: str, tmp_path: Path) -> None:
    module = trained(Scores())
    network = network_of(export(module, tmp_path / "model.onnx", torch.randn(2, 8, 2, 3), exporter))
    assert isinstance(network.get_submodule("qkv"), nn.Linear)
    images = torch.randn(4, 8, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module(images))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_and_a_sum_are_a_linear_layer(transposed: bool, tmp_path: Path) -> None:
    if transposed:
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, name="/head/Gemm")]
        constants = {"w": weights(3, 5), "b": weights(3)}
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="/head/MatMul"),
            helper.make_node("Add", ["b", "p"], ["y"], name="/head/Add"),
        ]
        constants = {"w": weights(5, 3), "b": weights(3)}
    network = network_of(write(tmp_path / "model.onnx", nodes, constants, shape=("batch", 5)))
    layer = network.get_submodule("head")
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (3, 5)
    assert torch.equal(layer.bias, torch.from_numpy(constants["b"]))


def test_images_with_channels_last_are_taken_with_channels_first(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="model/first/Conv2D"),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    path = write(tmp_path / "model.onnx", nodes, {"w": weights(5, 3, 3, 3)}, shape=("unk__1", 8, 6, 3))
    network = network_of(path)
    assert next(iter(network.graph.inputs.values())).shape == (0, 3, 8, 6)
    assert isinstance(network.get_submodule("model.first"), nn.Conv2d)


CONV = helper.make_node("Conv", ["x", "w"], ["y"])
HELD = {"w": weights(6, 4, 3, 3)}


def test_what_is_not_known_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"]),
        helper.make_node("Attention", ["a"], ["y"], domain="com.microsoft"),
    ]
    with pytest.raises(InvalidModel, match=r"uses NonZero, com\.microsoft\.Attention, which cannot be read here"):
        reader.read(write(tmp_path / "model.onnx", nodes, {}))


@pytest.mark.parametrize("opset", [10, 24])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=f"of opset {opset}; opsets 11 to 23 are read"):
        reader.read(write(tmp_path / "model.onnx", [CONV], HELD, opset=opset))


def test_weights_in_other_files_are_never_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [CONV], HELD)
    for location in ("../../etc/passwd", "/etc/passwd", "weights.bin"):
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
        (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(InvalidModel, match="weights in other files, which are never opened"):
            reader.read(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.graph.initializer[0].dims.__setitem__(0, 2**60), "more than 1,000,000,000 elements"),
        (lambda model: model.graph.initializer[0].dims.__setitem__(0, -1), "negative size"),
        (lambda model: model.graph.ClearField("node"), "holds no ONNX graph"),
        (lambda model: model.graph.input.add(name="z"), "takes 2 inputs"),
        (lambda model: model.graph.node[0].input.__setitem__(1, "gone"), "cannot be read here|contradicts itself"),
        (lambda model: model.graph.node[0].attribute.add(name="strides", type=1, f=2.0), "contradicts|not as ONNX"),
    ],
)
def test_models_that_contradict_themselves_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [CONV], HELD)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match=message):
        reader.read(path)


def test_files_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [CONV], HELD)
    content = path.read_bytes()
    for cut in range(1, len(content), 37):
        path.write_bytes(content[:cut])
        with pytest.raises(InvalidModel):
            network_of(path)


def test_a_network_that_gives_something_else_than_the_runtime_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [CONV], HELD)
    network = network_of(path)
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    with pytest.raises(InvalidModel, match=r"differ by .* from ONNX Runtime's, where 0.0001 of the largest is allowed"):
        reader.check_against_runtime(path, network)
