"""A graph as a module: real layers under their names, called in the graph's order.

The graph is interpreted. No code is made of it, so its names are never more than names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.graphs.layers import LAYERS, RECURRENT
from modelpress.engine.graphs.operators import OPERATORS
from modelpress.engine.graphs.softmax import softmax_at_end
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import (
    Argument,
    Call,
    DataType,
    Graph,
    Infinite,
    InputDevice,
    Layer,
    LayerCall,
    MemoryFormat,
    ValueOf,
    WeightOf,
    items_of,
    values_of,
)


class Plan:
    """What a graph computes, step by step, and which values nothing needs after each. Copies share it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.softmax = softmax_at_end(graph)
        last: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            last.update(dict.fromkeys((*values_of(node), *node.outputs), index))
        for name in graph.outputs:
            last.pop(name, None)
        spent: list[list[str]] = [[] for _ in graph.nodes]
        for name, index in last.items():
            spent[index].append(name)
        self.steps = list(zip(graph.nodes, spent, strict=True))

    def __deepcopy__(self, memo: dict[int, object]) -> Plan:
        return self


class GraphNetwork(nn.Module):
    """The network that a graph describes, its weights drawn at random.

    `forward` takes the graph's inputs by position, and gives its output, or a tuple of them where there are several.
    """

    def __init__(self, graph: Graph) -> None:
        """Raises InvalidModel for an operator or a layer that is not known, or arguments that it does not take."""
        super().__init__()
        _check_operators(graph)
        for name, layer in graph.layers.items():
            _attach(self, name, _made(name, layer))
        for name, shape in graph.weights.items():
            tensor = torch.empty(shape.shape, dtype=getattr(torch, shape.dtype.dtype))
            _attach(self, name, nn.Parameter(tensor) if shape.trainable else tensor)
        # Under a name that no part of anybody's network has: what a network holds, it holds as attributes.
        self._modelpress_plan = Plan(graph)
        self._modelpress_takes_logarithms = False
        for node in graph.nodes:
            for item in items_of(node) if isinstance(node, Call) else ():
                if isinstance(item, WeightOf):
                    _weight_of(self, item.weight)

    def forward(self, first: Tensor, *others: Tensor) -> Any:
        """The graph's outputs for its inputs, each with the batch as first dimension."""
        # Exporters name the shape of one input; they would not find it in a signature of `*inputs` alone.
        return compute(self, (first, *others))


def graph_of(network: GraphNetwork) -> Graph:
    """What it was made of. Steps that change layers since leave it as it is."""
    return network._modelpress_plan.graph


def ends_in_softmax(module: nn.Module) -> bool:
    """Whether a network gives probabilities. Only graphs do, as they were exported; no architecture by name."""
    return isinstance(module, GraphNetwork) and module._modelpress_plan.softmax is not None


@contextmanager
def with_log_softmax(module: nn.Module) -> Iterator[None]:
    """Within, a network that ends in a softmax gives the logarithms of its probabilities; others give what they give.

    Computed as such: a logarithm of what a softmax has rounded to zero would be infinite, and without a gradient.
    """
    if not isinstance(module, GraphNetwork):
        yield
        return
    module._modelpress_takes_logarithms = True
    try:
        yield
    finally:
        module._modelpress_takes_logarithms = False


def weights_of_operators(module: nn.Module) -> frozenset[str]:
    """Names of the weights that operators of a graph take, beside what its layers have; none of another module."""
    if not isinstance(module, GraphNetwork):
        return frozenset()
    calls = (node for node in graph_of(module).nodes if isinstance(node, Call))
    return frozenset(item.weight for call in calls for item in items_of(call) if isinstance(item, WeightOf))


def compute(network: GraphNetwork, inputs: tuple[Tensor, ...], see: Callable[[str, object], None] | None = None) -> Any:
    """As `forward`; `see` is told each value with its name as soon as there is one."""
    plan = network._modelpress_plan
    graph = plan.graph
    if len(inputs) != len(graph.inputs):
        raise TypeError(f"the network takes {len(graph.inputs)} inputs, not {len(inputs)}")
    values: dict[str, Any] = dict(zip(graph.inputs, inputs, strict=True))
    device = inputs[0].device
    softmax = plan.softmax if network._modelpress_takes_logarithms else None
    for index, (node, spent) in enumerate(plan.steps):
        if index == softmax:
            values.update(_by_name(node, _log_softmax(network, node, values)))
        elif isinstance(node, LayerCall):
            values.update(_by_name(node, _call_layer(network, node, values)))
        else:
            values.update(called(node, values, partial(_weight_of, network), device))
        if see is not None:
            for name in node.outputs:
                see(name, values[name])
        for name in spent:
            del values[name]
    found = tuple(values[name] for name in graph.outputs)
    return found[0] if len(found) == 1 else found


def _weight_of(network: GraphNetwork, name: str) -> Tensor:
    """The parameter or buffer of this name in the state dict. Raises InvalidModel."""
    parent, _, leaf = name.rpartition(".")
    try:
        place = network.get_submodule(parent)
    except AttributeError as error:
        raise InvalidModel(f"the network uses a weight {name!r}, which it has not") from error
    found = {**place._parameters, **place._buffers}.get(leaf)
    if found is None:
        raise InvalidModel(f"the network uses a weight {name!r}, which it has not")
    return found


def _call_layer(network: GraphNetwork, node: LayerCall, values: Mapping[str, Any]) -> Any:
    layer = network.get_submodule(node.layer)
    taken = [values[each.value] for each in node.inputs]
    if not isinstance(layer, RECURRENT):
        return layer(*taken)
    # The operator takes and gives the states of an LSTM one by one, the layer as a pair.
    output, states = layer(taken[0], tuple(taken[1:]) if len(taken) > 2 else taken[1])
    return (output, *states) if isinstance(states, tuple) else (output, states)


def _log_softmax(network: GraphNetwork, node: Call | LayerCall, values: Mapping[str, Any]) -> Tensor:
    """In the place of a softmax, in its dimension."""
    if isinstance(node, LayerCall):
        dim: Any = network.get_submodule(node.layer).dim
    else:
        dim = node.options["dim"] if "dim" in node.options else node.arguments[1]
    return F.log_softmax(values[values_of(node)[0]], dim)


def called(
    call: Call, values: Mapping[str, Any], weight: Callable[[str], Tensor], device: torch.device
) -> dict[str, Any]:
    """What an operator gives, by name, for earlier values and weights by their names, with inputs on `device`.

    Raises what the operator raises.
    """

    def given(argument: Argument) -> Any:
        match argument:
            case tuple():
                return [given(item) for item in argument]
            case ValueOf(value=name):
                return values[name]
            case WeightOf(weight=name):
                return weight(name)
            case DataType(dtype=name) | MemoryFormat(memory_format=name):
                return getattr(torch, name)  # one of a few names, checked when it was read
            case Infinite(number=text):
                return math.nan if text == "nan" else float(text)
            case InputDevice():
                return device
            case _:
                return argument

    arguments = [given(argument) for argument in call.arguments]
    options = {name: given(argument) for name, argument in call.options.items()}
    return _by_name(call, OPERATORS[call.operator](*arguments, **options))


def _by_name(node: Call | LayerCall, result: Any) -> dict[str, Any]:
    # Also of one: what is split into a single part is a list all the same.
    if len(node.outputs) == 1 and not isinstance(result, list | tuple):
        return {node.outputs[0]: result}
    return dict(zip(node.outputs, result, strict=False))


def assembled(graph: Graph, state: Mapping[str, Tensor]) -> GraphNetwork:
    """The network of a graph with these very tensors as its weights, in evaluation mode.

    Nothing is drawn at random and nothing is copied. Raises InvalidModel, and RuntimeError where the weights are not
    those of the graph.
    """
    with torch.device("meta"):
        network = GraphNetwork(graph)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def _check_operators(graph: Graph) -> None:
    known = LAYERS.keys()
    unknown = sorted({layer.type for layer in graph.layers.values()} - known)
    unknown += sorted({node.operator for node in graph.nodes if isinstance(node, Call)} - OPERATORS.keys())
    if unknown:
        raise InvalidModel(
            f"the network uses what is not known here: {', '.join(name[:100] for name in unknown[:12])}; "
            "replace it by operators of torch that compute the same, and export the model again"
        )


def _made(name: str, layer: Layer) -> nn.Module:
    try:
        return LAYERS[layer.type](**layer.arguments)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidModel(f"layer {name!r}, a {layer.type}, cannot be built: {str(error)[:200]}") from error


def _attach(root: nn.Module, name: str, part: nn.Module | Tensor) -> None:
    """Add a layer or a weight under its name, making the modules above it."""
    *above, leaf = name.split(".")
    place = root
    try:
        for within in above:
            if within not in place._modules:
                place.add_module(within, nn.Module())
            place = place.get_submodule(within)
        if isinstance(part, nn.Module):
            # A layer may have others below it, which came before it.
            below = place._modules.get(leaf)
            for within, child in below.named_children() if below is not None else ():
                part.add_module(within, child)
            place.add_module(leaf, part)
        elif isinstance(part, nn.Parameter):
            place.register_parameter(leaf, part)
        else:
            place.register_buffer(leaf, part)
    except KeyError as error:
        raise InvalidModel(f"the network names a part {name!r}, which torch cannot hold: {error}") from error
