"""Recurrent operators of ONNX: torch's layers with their gates in torch's order give what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.network import graph_of
from modelpress.engine.graphs.onnx import reader
from modelpress.engine.measure import count_macs
from modelpress.spec.failure import InvalidModel
from tests.support.exported import trained
from tests.support.onnx_files import export, ints, network_of, weights, write

LENGTH, INPUTS, HIDDEN = 5, 6, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Constants = dict[str, np.ndarray[Any, Any]]


def rows_network(
    path: Path, kind: str, *, more: Constants | None = None, state: int | None = None, **given: Any
) -> Path:
    """A model that reads the rows of images (batch, 1, 5, 6), and gives all states or, with `state`, that last one."""
    directions = 2 if given.get("direction") == "bidirectional" else 1
    gates = GATES[kind] * HIDDEN
    constants: Constants = {
        "w": weights(directions, gates, INPUTS),
        "r": weights(directions, gates, HIDDEN)[..., ::-1].copy(),
        "b": weights(directions, 2 * gates),
        "channels": ints(1),
        **(more or {}),
    }
    names = ["w", "r", "b", "lengths", "h", "c", "p"][: 7 if kind == "LSTM" else 5]
    outputs = ["y"] if state is None else [*[""] * state, "y"]
    nodes = [
        helper.make_node("Squeeze", ["x", "channels"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["sequence"], perm=[1, 0, 2]),
        helper.make_node(
            kind,
            ["sequence", *(name if name in constants else "" for name in names)],
            [name if name != "y" else "states" for name in outputs],
            hidden_size=HIDDEN,
            **given,
        ),
        # The batch first, as in any output.
        helper.make_node("Transpose", ["states"], ["y"], perm=[2, 0, 1, 3] if state is None else [1, 0, 2]),
    ]
    return write(path, nodes, constants, shape=("batch", 1, LENGTH, INPUTS))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("state", [None, 1])
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("LSTM", {}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_recurrent_operators_are_layers(
    kind: str, given: dict[str, Any], state: int | None, direction: str, tmp_path: Path
) -> None:
    if "activations" in given and direction == "bidirectional":
        given = {**given, "activations": given["activations"] * 2}
    path = rows_network(tmp_path / "model.onnx", kind, state=state, direction=direction, **given)
    network = lifted_network(reader.read(path))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.RNNBase)]
    assert [type(layer).__name__ for layer in layers] == [kind]
    assert layers[0].bidirectional == (direction == "bidirectional")
    images = weights(3, 1, LENGTH, INPUTS)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": images})
    with torch.no_grad():
        found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_first_state_is_that_of_each_image(tmp_path: Path) -> None:
    state = weights(1, 1, HIDDEN)
    more = {"h": state, "c": -state, "lengths": np.full(1, LENGTH, dtype=np.int32)}
    path = rows_network(tmp_path / "model.onnx", "LSTM", more=more, state=2)
    network = lifted_network(reader.read(path))
    assert sum(parameters.numel() for parameters in network.parameters()) == GATES["LSTM"] * HIDDEN * 12 + 2 * HIDDEN
    count_macs(network, (1, LENGTH, INPUTS))  # raised where a parameter itself was the state
    images = weights(1, 1, LENGTH, INPUTS)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": images})
    with torch.no_grad():
        found = network(torch.from_numpy(images).repeat(3, 1, 1, 1)).numpy()
    np.testing.assert_allclose(found, wanted.repeat(3, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "more", "given", "reason"),
    [
        ("GRU", {}, {}, "linear_before_reset=0"),
        ("LSTM", {"p": weights(1, 3 * HIDDEN)}, {}, "peepholes"),
        ("LSTM", {"lengths": np.array([3, 5], dtype=np.int32)}, {}, "sequences differ in their lengths"),
        ("LSTM", {"h": weights(1, 2, HIDDEN)}, {}, "differs between the images of a batch"),
        ("LSTM", {"w": weights(1, 3 * HIDDEN, INPUTS), "r": weights(1, 3 * HIDDEN, HIDDEN)}, {}, "not of the shapes"),
        ("RNN", {}, {"activations": ["Softsign"]}, "activations are softsign"),
        ("RNN", {}, {"clip": 3.0}, "clips its gates"),
        ("GRU", {}, {"layout": 1}, "takes the batch first"),
    ],
)
def test_what_layers_of_torch_do_not_compute_is_refused(
    kind: str, more: Constants, given: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=f"{kind} .* cannot be read here: .*{reason}"):
        reader.read(rows_network(tmp_path / "model.onnx", kind, more=more, **given))


class Reader(nn.Module):
    """A classifier that reads an image row by row."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rows = kind(8, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x.squeeze(1))[0][:, -1])


@pytest.mark.parametrize(("kind", "exporter"), [(nn.LSTM, "dynamo"), (nn.LSTM, "torchscript"), (nn.GRU, "torchscript")])
def test_the_exporters_of_torch(kind: type[nn.RNNBase], exporter: str, tmp_path: Path) -> None:
    module = trained(Reader(kind))
    network = network_of(export(module, tmp_path / "model.onnx", torch.randn(2, 1, 8, 8), exporter))
    layers = [type(layer) for layer in network.modules() if isinstance(layer, nn.RNNBase)]
    assert layers == [kind, kind]
    # The zeros that they begin with are no weights.
    assert not [name for name, weight in graph_of(network).weights.items() if weight.trainable]
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module(images))
