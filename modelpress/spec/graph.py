"""A network as a graph: what a file says of a network whose constructor we do not have.

    inputs -> nodes, in order, each a call of an operator or of a layer -> outputs

Operators are ATen's by their names (`add.Tensor`), layers are torch's (`Conv2d`) under the names that they had in the
module that was exported. It is data alone; the engine runs what it finds in its own lists of operators and layers.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from modelpress.spec.config import Config

# Torch's largest networks have 2,000 nodes; a graph of LSTM steps written out may have ten times as many.
MOST_NODES = 50_000

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=512)]
"""Parts of letters, digits, underscores and hyphens with dots between them."""


class ValueOf(Config):
    """What an input or an earlier node gave."""

    value: Name = Field(description="Its name.")


class WeightOf(Config):
    """A weight, by its name in the state dict."""

    weight: Name = Field(description="Its name.")


class DataType(Config):
    """A type of torch's numbers."""

    dtype: Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"] = (
        Field(description="Its name in torch.")
    )


class MemoryFormat(Config):
    """An order in which torch lays tensors out."""

    memory_format: Literal["contiguous_format", "channels_last", "channels_last_3d", "preserve_format"] = Field(
        description="Its name in torch."
    )


class InputDevice(Config):
    """The device that the network's input is on, wherever it was exported."""

    device: Literal["input"] = Field(default="input", description="Always `input`.")


class Infinite(Config):
    """A number that JSON cannot write."""

    number: Literal["inf", "-inf", "nan"] = Field(description="Which one.")


Item = ValueOf | WeightOf | DataType | MemoryFormat | InputDevice | Infinite | bool | int | float | str | None
Argument = Item | tuple[Item, ...]


class Call(Config):
    """One operator on earlier values."""

    kind: Literal["call"] = "call"
    operator: str = Field(description="ATen's name with the overload, such as `add.Tensor`.", max_length=128)
    arguments: tuple[Argument, ...] = Field(default=(), description="Arguments by position.")
    options: dict[str, Argument] = Field(default_factory=dict, description="Arguments by name.")
    outputs: tuple[Name, ...] = Field(description="Names of what it gives; several for an operator that gives a list.")


class LayerCall(Config):
    """One layer on earlier values."""

    kind: Literal["layer"] = "layer"
    layer: Name = Field(description="Name of the layer.")
    inputs: tuple[ValueOf, ...] = Field(min_length=1, description="What it takes.")
    outputs: tuple[Name, ...] = Field(description="Names of what it gives.")


Node = Annotated[Call | LayerCall, Field(discriminator="kind")]


class Layer(Config):
    """A layer of `torch.nn`."""

    type: str = Field(description="Name of its class, such as `Conv2d`.", max_length=64)
    arguments: dict[str, bool | int | float | str | tuple[int, ...] | None] = Field(
        default_factory=dict, description="Arguments of its constructor."
    )


class TensorShape(Config):
    """The shape and the type of a weight that no layer holds, or of an input, whose first dimension is the batch."""

    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="Elements in each dimension.", max_length=16)
    dtype: DataType = Field(default=DataType(dtype="float32"), description="Type of its numbers.")
    trainable: bool = Field(default=False, description="Whether training changes it.")


class Graph(Config):
    """A network without a constructor."""

    kind: Literal["graph"] = "graph"
    inputs: dict[Name, TensorShape] = Field(min_length=1, description="What it takes, by name, in order.")
    layers: dict[Name, Layer] = Field(default_factory=dict, description="Its layers by name.")
    weights: dict[Name, TensorShape] = Field(default_factory=dict, description="Weights that no layer holds, by name.")
    nodes: tuple[Node, ...] = Field(description="What is computed, in order.", max_length=MOST_NODES)
    outputs: tuple[Name, ...] = Field(min_length=1, description="Which of the values it gives.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        known = set(self.inputs)
        for node in self.nodes:
            if isinstance(node, LayerCall) and node.layer not in self.layers:
                raise ValueError(f"a node calls layer {node.layer!r}, which the graph has not")
            for name in values_of(node):
                if name not in known:
                    raise ValueError(f"a node takes {name!r}, which nothing before it gave")
            for name in node.outputs:
                if name in known:
                    raise ValueError(f"two nodes give {name!r}")
                known.add(name)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"the output {name!r} is given by no node")
        return self


class GraphOutline(Config):
    """A graph in short, as inspections show it."""

    kind: Literal["graph_outline"] = "graph_outline"
    nodes: int = Field(ge=0, description="Calls of operators and layers.")
    layers: int = Field(ge=0, description="Layers.")
    operators: tuple[str, ...] = Field(description="Operators that are called beside the layers, by name.")


def outline(graph: Graph) -> GraphOutline:
    """What there is to say of a graph in a few lines."""
    operators = {node.operator for node in graph.nodes if isinstance(node, Call)}
    return GraphOutline(nodes=len(graph.nodes), layers=len(graph.layers), operators=tuple(sorted(operators)))


def values_of(node: Call | LayerCall) -> list[str]:
    """Names of the values that a node takes, each as often as it is taken."""
    if isinstance(node, LayerCall):
        return [taken.value for taken in node.inputs]
    return [item.value for item in items_of(node) if isinstance(item, ValueOf)]


def items_of(node: Call) -> list[Item]:
    """The arguments of a call one by one, those within lists too."""
    found: list[Item] = []
    for argument in (*node.arguments, *node.options.values()):
        if isinstance(argument, tuple):
            found.extend(argument)
        else:
            found.append(argument)
    return found
