"""From operators on loose weights to layers that hold them, as the network's authors wrote it.

An exported graph calls `conv2d` on a weight. Lifted, it calls a `Conv2d`, which steps can prune, factorize and train
by its name. What comes out is the same to the last bit: a layer runs the operator that it was lifted from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelpress.engine.graphs.layers import STATISTICS, Lifted, lifted
from modelpress.engine.graphs.network import assembled, compute
from modelpress.engine.graphs.operators import OPERATORS
from modelpress.spec.graph import (
    Argument,
    Call,
    Graph,
    Layer,
    LayerCall,
    TensorShape,
    WeightOf,
    items_of,
)


@dataclass(frozen=True)
class Program:
    """A graph of operators alone, with its weights by name.

    `scopes` says for calls, by their first output, which module of the original made them: its name, from outermost to
    innermost, or nothing where that is not known. `buffers` are the weights that the module does not learn.
    """

    graph: Graph
    state: dict[str, Tensor]
    scopes: dict[str, str]
    buffers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LiftedProgram:
    """A graph with layers, and the state dict of the module that it describes."""

    graph: Graph
    state: dict[str, Tensor]


def lift(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> LiftedProgram:
    """The program with a layer for each call that one stands for; `shapes` are those that `run` saw.

    Raises InvalidModel for operators that are not known.
    """
    return _Lifting(program, shapes).result()


def run(program: Program, inputs: tuple[Tensor, ...]) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The program's outputs for `inputs`, and the shapes of its inputs, values and weights by name.

    Values and weights have no names in common that matter. Raises what torch raises where the graph cannot be run.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in program.state.items()}
    shapes |= {name: tuple(tensor.shape) for name, tensor in zip(program.graph.inputs, inputs, strict=True)}

    def see(name: str, value: object) -> None:
        if isinstance(value, Tensor):
            shapes[name] = tuple(value.shape)

    with torch.inference_mode():
        outputs = compute(assembled(program.graph, program.state), inputs, see)
    return outputs, shapes


class _Lifting:
    """The state of one lift."""

    def __init__(self, program: Program, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._program = program
        self._shapes = shapes
        self._layers: dict[str, Layer] = {}
        # Which layer, and what within it, each weight of the program became.
        self._owners: dict[str, tuple[str, str]] = {}
        # Names of modules that hold weights or other modules, and so are no activation's.
        self._above = {above for name in (*program.state, *program.scopes.values()) for above in _above(name)}

    def result(self) -> LiftedProgram:
        nodes = [self._node(node) for node in self._program.graph.nodes if isinstance(node, Call)]
        nodes = [self._renamed(node) if isinstance(node, Call) else node for node in nodes]
        state = {f"{layer}.{within}": self._program.state[weight] for weight, (layer, within) in self._owners.items()}
        loose = {}
        for node in nodes:
            for item in items_of(node) if isinstance(node, Call) else ():
                if isinstance(item, WeightOf) and item.weight not in state:
                    loose[item.weight] = self._program.graph.weights[item.weight]
                    state[item.weight] = self._program.state[item.weight]
        self._count_batches(state)
        # Written down as it is read back, so that its checks hold of it.
        graph = Graph(
            inputs=self._program.graph.inputs,
            layers=self._layers,
            weights=loose,
            nodes=tuple(nodes),
            outputs=self._program.graph.outputs,
        )
        return LiftedProgram(graph, state)

    def _node(self, call: Call) -> Call | LayerCall:
        found = lifted(call.operator, bound_arguments(call), self._shapes)
        if found is None or not self._is_learned(found):
            return call
        name = self._place(found, call)
        return call if name is None else LayerCall(layer=name, inputs=found.inputs, outputs=call.outputs)

    def _is_learned(self, found: Lifted) -> bool:
        """Whether the module learns the layer's weights: a fixed filter, or a norm that was frozen as buffers, stays a
        call, which no step changes or trains."""
        weights = {name for within, name in found.weights.items() if within not in STATISTICS}
        return self._program.buffers.isdisjoint(weights)

    def _place(self, found: Lifted, call: Call) -> str | None:
        """The name of the layer, now among the layers; None where another layer has its weights already."""
        owners = {self._owners.get(weight) for weight in found.weights.values()}
        if found.weights and owners != {None}:
            # Called again: the same layer if it is the same in all, else the call goes on with that layer's weights.
            names = {owner[0] for owner in owners if owner is not None}
            same = len(names) == 1 and None not in owners and self._layers[min(names)] == found.layer
            return min(names) if same else None
        if found.weights:
            name = self._home(found.weights)
            self._owners |= {weight: (name, within) for within, weight in found.weights.items()}
        else:
            scope = self._program.scopes.get(call.outputs[0], "")
            name = f"{scope}.{call.outputs[0]}" if scope in self._above else scope or call.outputs[0]
            if self._layers.get(name) == found.layer:
                return name
            name = self._unused(name)
        self._layers[name] = found.layer
        return name

    def _home(self, weights: Mapping[str, str]) -> str:
        """A name for the layer that holds these weights: what stands before `.weight` in the program's own names.

        Weights that are shared have names of other layers, so that not each of them tells.
        """
        homes = [
            weight.removesuffix(ending)
            for within, weight in weights.items()
            for ending in (f".{within}", f"_{within}")
            if weight.endswith(ending)
        ]
        for home in homes:
            if home not in self._layers and all(
                (key := f"{home}.{within}") == weight or key not in self._program.state
                for within, weight in weights.items()
            ):
                return home
        return self._unused(f"{next(iter(weights.values()))}_layer")

    def _unused(self, name: str) -> str:
        taken, number = name, 1
        while taken in self._layers or taken in self._program.state:
            number += 1
            taken = f"{name}_{number}"
        return taken

    def _renamed(self, call: Call) -> Call:
        """The call with the new names of weights that layers own now."""

        def new(item: Any) -> Any:
            if isinstance(item, WeightOf) and item.weight in self._owners:
                return WeightOf(weight=".".join(self._owners[item.weight]))
            return item

        def all_new(argument: Argument) -> Argument:
            return tuple(new(item) for item in argument) if isinstance(argument, tuple) else new(argument)

        if not any(isinstance(item, WeightOf) for item in items_of(call)):
            return call
        return call.model_copy(
            update={
                "arguments": tuple(all_new(argument) for argument in call.arguments),
                "options": {name: all_new(argument) for name, argument in call.options.items()},
            }
        )

    def _count_batches(self, state: dict[str, Tensor]) -> None:
        # A batch norm counts its batches, which no operator looks at.
        for name, layer in self._layers.items():
            if layer.type.startswith("BatchNorm"):
                counted = f"{name}.num_batches_tracked"
                state[counted] = self._program.state.get(counted, torch.tensor(0))


def bound_arguments(call: Call) -> dict[str, Any]:
    """The arguments of a call by the operator's own names for them, with its defaults."""
    operator = OPERATORS[call.operator]
    if not isinstance(operator, torch._ops.OpOverload):
        return {}
    bound: dict[str, Any] = {}
    for index, argument in enumerate(operator._schema.arguments):
        if index < len(call.arguments):
            bound[argument.name] = call.arguments[index]
        elif argument.name in call.options:
            bound[argument.name] = call.options[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def loose_weights(state: Mapping[str, Tensor], trainable: set[str]) -> dict[str, TensorShape]:
    """How a graph declares weights that no layer holds."""
    return {
        name: TensorShape.model_validate(
            {
                "shape": tuple(tensor.shape),
                "dtype": {"dtype": str(tensor.dtype).removeprefix("torch.")},
                "trainable": name in trainable,
            }
        )
        for name, tensor in state.items()
    }


def _above(name: str) -> list[str]:
    """The modules that one of this name is within."""
    return [name[:at] for at, letter in enumerate(name) if letter == "."]
