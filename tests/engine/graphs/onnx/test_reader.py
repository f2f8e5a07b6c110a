"""ONNX models as exporters write them: what ONNX Runtime gives, from layers of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.network import graph_of
from modelpress.engine.graphs.onnx import reader
from modelpress.engine.network import weighted_layers
from modelpress.spec.failure import InvalidModel
from tests.support.exported import Photographer, trained
from tests.support.onnx_files import export, ints, network_of, weights, write


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


@pytest.mark.parametrize("held_by", ["initializers", "constants", "casts"])
def test_wherever_a_file_holds_weights_they_are_those_of_layers(held_by: str, tmp_path: Path) -> None:
    constants = {"w": weights(5, 4, 3, 3), "b": weights(5), "v": weights(3, 5), "c": weights(3)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], name="/stem/Conv"),
        helper.make_node("GlobalAveragePool", ["h"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "c"], ["y"], transB=1, name="/head/Gemm"),
    ]
    if held_by == "constants":
        nodes = [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
            for name, array in constants.items()
        ] + nodes
        constants = {}
    elif held_by == "casts":
        nodes = [helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT) for name in constants] + nodes
        constants = {f"{name}_half": array.astype(np.float16) for name, array in constants.items()}
    network = network_of(write(tmp_path / "model.onnx", nodes, constants))
    assert [type(layer) for layer in weighted_layers(network).values()] == [nn.Conv2d, nn.Linear]


def test_images_with_channels_last_are_taken_with_channels_first(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="model/first/Conv2D"),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    path = write(tmp_path / "model.onnx", nodes, {"w": weights(5, 3, 3, 3)}, shape=("unk__1", 8, 6, 3))
    network = network_of(path)
    assert next(iter(graph_of(network).inputs.values())).shape == (0, 3, 8, 6)
    assert isinstance(network.get_submodule("model.first"), nn.Conv2d)


def test_images_with_channels_last_are_taken_where_no_transposition_says_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["h"]),
        helper.make_node("ReduceMean", ["h", "a"], ["y"], keepdims=0),
    ]
    constants = {"w": weights(3, 5), "b": weights(5), "a": ints(1, 2)}
    path = write(tmp_path / "model.onnx", nodes, constants, shape=("batch", 8, 6, 3), opset=18)
    notes: list[str] = []
    network = lifted_network(reader.read(path, notes.append))
    reader.check_against_runtime(path, network)
    assert next(iter(graph_of(network).inputs.values())).shape == (0, 3, 8, 6)
    assert "channels of its images last" in notes[0]
    images = weights(2, 3, 8, 6)
    (wanted,) = onnxruntime.InferenceSession(path).run(None, {"x": images.transpose(0, 2, 3, 1)})
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(images)).numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_narrow_images_with_channels_first_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [CONV], HELD, shape=("batch", 4, 9, 3))
    assert next(iter(graph_of(network_of(path)).inputs.values())).shape == (0, 4, 9, 3)


def test_a_network_of_tensorflow(tmp_path: Path) -> None:
    """As tf2onnx writes a Keras network: NHWC outside, SAME padding, norms as products and sums, weights transposed."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2], name="m/first/Conv2D__6"),
        helper.make_node("Conv", ["t", "w"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2], name="m/first/Conv2D"),
        helper.make_node("Mul", ["c", "scale"], ["n"], name="m/norm/mul"),
        helper.make_node("Add", ["n", "shift"], ["s"], name="m/norm/add"),
        helper.make_node("Clip", ["s", "low", "six"], ["r"], name="m/Relu6"),
        helper.make_node(
            "Conv", ["r", "d"], ["e"], group=6, pads=[0, 0, 1, 1], strides=[2, 2], name="m/depthwise/depthwise"
        ),
        helper.make_node("AveragePool", ["e"], ["v"], kernel_shape=[2, 2], auto_pad="SAME_UPPER", name="m/pool"),
        helper.make_node("Transpose", ["v"], ["l"], perm=[0, 2, 3, 1], name="m/flatten__8"),
        helper.make_node("Shape", ["l"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["l", "flat"], ["f"], name="m/flatten/Reshape"),
        helper.make_node("MatMul", ["f", "k"], ["p"], name="m/dense/MatMul"),
        helper.make_node("Add", ["p", "b"], ["a"], name="m/dense/BiasAdd"),
        helper.make_node("Softmax", ["a"], ["y"], name="m/dense/Softmax"),
    ]
    constants = {
        "w": weights(6, 3, 3, 3),
        "scale": weights(1, 6, 1, 1),
        "shift": weights(1, 6, 1, 1),
        "low": np.zeros((), np.float32),
        "six": np.full((), 6, np.float32),
        "d": weights(6, 1, 2, 2),
        "zero": ints(0),
        "one": ints(1),
        "rest": ints(36),
        "k": weights(36, 10),
        "b": weights(10),
    }
    network = network_of(write(tmp_path / "model.onnx", nodes, constants, shape=("unk__1", 9, 7, 3)))
    layers = {name: type(layer).__name__ for name, layer in network.named_modules() if name}
    wanted = {"m.first": "Conv2d", "m.depthwise": "Conv2d", "m.dense": "Linear"}
    assert {name: layers.get(name) for name in wanted} == wanted
    assert "ReLU6" in layers.values()


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_transformer_with_a_class_token(exporter: str, batch_first: bool, tmp_path: Path) -> None:
    """Exported for one image, the token is no longer repeated, and attention puts the batch second."""
    module = trained(Tokens(batch_first))
    network = network_of(export(module, tmp_path / "model.onnx", torch.randn(2, 4, 3, 2), exporter))
    images = torch.randn(5, 4, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module(images))


class Tokens(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x if self.batch_first else x.transpose(0, 1)
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(x[:, 0] if self.batch_first else x[0])


@pytest.mark.parametrize("opset", [11, 12])
def test_softmax_was_one_of_a_matrix(opset: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["p", "q"], axis=1, split=[1, 3]),
        helper.make_node("Softmax", ["q"], ["s"], axis=2),
        helper.make_node("Softmax", ["s"], ["t"]),
        helper.make_node("Squeeze", ["p"], ["u"], axes=[1]),
        helper.make_node("Unsqueeze", ["u"], ["v"], axes=[1]),
        helper.make_node("Add", ["t", "v"], ["y"]),
    ]
    network_of(write(tmp_path / "model.onnx", nodes, {}, opset=opset))


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
        (lambda model: model.graph.initializer[0].dims.__setitem__(0, 5), "the ONNX model is damaged"),
        (lambda model: setattr(model.graph.initializer[0], "data_type", 99), r"the ONNX model is damaged \(99\)"),
        (lambda model: model.graph.ClearField("node"), "holds no ONNX graph"),
        (lambda model: model.graph.ClearField("output"), "holds no ONNX graph"),
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


@pytest.mark.parametrize("name", ["Conv", "called", "domain", "taken", "given", "strides", "held", "photos", "scores"])
def test_names_that_are_no_text_are_refused(name: str, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["taken"], ["given"], name="called", domain="domain", strides=[1, 1])
    path = write(tmp_path / "model.onnx", [node], {"held": HELD["w"]}, output="scores")
    model = onnx.load(path)
    model.graph.input[0].name = "photos"
    whole = model.SerializeToString()
    assert whole.count(name.encode()) == 1
    path.write_bytes(whole.replace(name.encode(), b"\xff" * len(name)))
    with pytest.raises(InvalidModel, match="has names that are no UTF-8 text"):
        reader.read(path)


def test_a_small_file_that_makes_large_shapes_and_constants_is_refused(tmp_path: Path) -> None:
    doubled = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    for first in (
        [helper.make_node("Shape", ["x"], ["c0"])],
        [helper.make_node("Constant", [], ["c0"], value_ints=[1] * 64)],
    ):
        nodes = [*first, *doubled, helper.make_node("Reshape", ["x", "c60"], ["y"])]
        with pytest.raises(InvalidModel, match=r"a shape of more than 64 numbers|computed from values|is not known"):
            reader.read(write(tmp_path / "model.onnx", nodes, {}))
    counts = [helper.make_node("Range", ["z", "n", "o"], [f"r{i}"]) for i in range(20)]
    constants = {"z": np.array(0), "n": np.array(1 << 20), "o": np.array(1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelpress.engine.graphs.onnx.translation.MOST_ELEMENTS", 10 << 20)
        with pytest.raises(InvalidModel, match="constants and weights of more than 10,485,760 elements"):
            reader.read(write(tmp_path / "model.onnx", [*counts, CONV], {**HELD, **constants}))


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
