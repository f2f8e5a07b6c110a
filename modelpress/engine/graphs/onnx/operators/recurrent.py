"""Recurrent layers: one of ONNX's is one layer of torch's, with its gates in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch

from modelpress.engine.graphs.onnx.node import Attributes, Converter, optional
from modelpress.engine.graphs.onnx.translation import Size, Translation, Untranslatable
from modelpress.spec.graph import DataType, InputDevice, Item, ValueOf, WeightOf


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layer: `gates` says for each of torch's gates which of ONNX's it is."""

    operator: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]
    states: int = 1


# ONNX has an LSTM's gates in the order input, output, forget, cell, torch input, forget, cell, output;
LSTM = Cell("lstm.input", (0, 2, 3, 1), ("sigmoid", "tanh", "tanh"), states=2)
# a GRU's update, reset, new; torch reset, update, new.
GRU = Cell("gru.input", (1, 0, 2), ("sigmoid", "tanh"))
RNN = Cell("rnn_tanh.input", (0,), ("tanh",))
RNN_RELU = Cell("rnn_relu.input", (0,), ("relu",))

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def recurrent(*cells: Cell) -> Converter:
    """The converter of an operator that is the first of `cells` whose activations it has."""

    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        direction = given.get("direction", "forward")
        directions = _DIRECTIONS[direction]
        cell = _cell(cells, given, directions)
        _refuse_what_torch_has_not(on, node, given, cell)
        value = on.tensor(node.input[0])
        count = on.call("sym_size.int", value, 1)
        if direction == "reverse":
            value = on.call("flip.default", value, (0,))
        weights, hidden, has_biases = _weights(on, node, cell, directions)
        first = [_state(on, optional(node, 5 + index), (directions, count, hidden)) for index in range(cell.states)]
        states: Any = tuple(first) if cell.states > 1 else first[0]
        output = on.call(
            *(cell.operator, value, states, weights, has_biases, 1, 0.0, False, directions == 2, False),
            outputs=1 + cell.states,
        )
        _, *last = on.last_outputs()
        if direction == "reverse":
            output = on.call("flip.default", output, (0,))
        # From (sequence, batch, directions * hidden) to (sequence, directions, batch, hidden).
        apart = on.call("unflatten.int", output, -1, (directions, hidden))
        on.gives(node.output[0], on.call("permute.default", apart, (0, 2, 1, 3)))
        for name, state in zip(node.output[1:], last, strict=False):
            on.gives(name, ValueOf(value=state))

    return convert


def _cell(cells: tuple[Cell, ...], given: Attributes, directions: int) -> Cell:
    named = given.get("activations")
    if not named:
        return cells[0]
    activations = tuple(name.decode("utf-8", "replace").lower() for name in named)
    for cell in cells:
        if activations == cell.activations * directions:
            return cell
    raise Untranslatable(f"its activations are {', '.join(name[:20] for name in activations[:6])}")


def _refuse_what_torch_has_not(on: Translation, node: onnx.NodeProto, given: Attributes, cell: Cell) -> None:
    if "clip" in given or given.get("input_forget", 0):
        raise Untranslatable("it clips its gates, or has its input gate forget")
    if given.get("layout", 0):
        raise Untranslatable("it takes the batch first (layout=1), which ONNX Runtime does not run")
    if cell is GRU and not given.get("linear_before_reset", 0):
        raise Untranslatable("it resets its state before the product (linear_before_reset=0), torch's after it")
    peepholes = optional(node, 7)
    if peepholes is not None and (on.constant(peepholes) is None or np.any(on.constant(peepholes))):
        raise Untranslatable("its gates look at the cell (peepholes)")
    named = optional(node, 4)
    if named is not None:
        length = on.shape(node.input[0])[0]
        if length is None or set(on.numbers(named)) != {length}:
            raise Untranslatable("its sequences differ in their lengths")


def _weights(
    on: Translation, node: onnx.NodeProto, cell: Cell, directions: int
) -> tuple[tuple[WeightOf, ...], int, bool]:
    """The weights in torch's order, the size of a state, and whether there are biases among them."""
    named = optional(node, 3)
    inputs, states = on.constant(node.input[1]), on.constant(node.input[2])
    biases = None if named is None else on.constant(named)
    if inputs is None or states is None or (named is not None and biases is None):
        raise Untranslatable("its weights are computed")
    hidden, gates = states.shape[2], len(cell.gates)
    if len(inputs) != directions or states.shape != (directions, gates * hidden, hidden):
        raise Untranslatable("its weights are not of the shapes that ONNX gives them")
    home, number = on.scope, 1
    while f"{home}.weight_ih_l0" in on.state:
        number += 1
        home = f"{on.scope}_{number}"
    held = []
    for direction in range(directions):
        parts = {"weight_ih": inputs[direction], "weight_hh": states[direction]}
        if biases is not None:
            parts["bias_ih"], parts["bias_hh"] = np.split(biases[direction], 2)
        for part, array in parts.items():
            ordered = array.reshape(gates, hidden, -1)[list(cell.gates)].reshape(array.shape)
            name = f"{home}.{part}_l0{'_reverse' if direction else ''}"
            held.append(WeightOf(weight=on.new_weight(name, torch.from_numpy(np.array(ordered)))))
    return tuple(held), hidden, biases is not None


def _state(on: Translation, name: str | None, shape: tuple[int, Size, int]) -> ValueOf:
    """A first state (directions, batch, hidden): zeros, the same for each image, or computed."""
    found = None if name is None else on.constant(name)
    if name is not None and found is None:
        computed = on.value(name)
        if computed is None:
            raise Untranslatable("its first state is a shape")
        return computed
    if found is None or not found.any():
        float32: Item = DataType(dtype="float32")
        return on.call("zeros.default", shape, dtype=float32, device=InputDevice())
    if (found != found[:, :1]).any():
        raise Untranslatable("its first state differs between the images of a batch")
    row = on.new_weight(f"{on.scope}.state", torch.from_numpy(np.array(found[:, :1])))
    # Without gradients torch takes a view of a parameter for one itself, which its counter of operations stumbles on.
    return on.call("clone.default", on.call("expand.default", WeightOf(weight=row), (-1, shape[1], -1)))
