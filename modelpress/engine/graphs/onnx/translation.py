"""An ONNX graph on its way to a program of ATen operators: what its values have become so far."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from modelpress.engine.architectures.budget import MOST_ELEMENTS
from modelpress.engine.graphs.trial import Trial
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Argument, Call, TensorShape, ValueOf, WeightOf

INPUT = "images"
"""Name of the program's input."""

_BATCHES = (5, 7)
_MOST_SIZES = 64

Size = int | ValueOf
"""One number of a shape: known, or computed from the batch's size."""


@dataclass(frozen=True)
class Places:
    """Where elements lie in the values of a whole batch, laid end to end: at `within` of the first image, at `step`
    further on in each next one.

    `within` has a first dimension of 1 in place of the batch's `count`. Exporters write `as_strided` so.
    """

    count: Size
    step: int
    within: np.ndarray[Any, Any]


class Untranslatable(Exception):
    """A node that cannot be said in ATen's operators; the message says why."""


class Translation:
    """The values of an ONNX graph by name, as weights, as values of the program, or as the numbers of a shape.

    Exporters compute shapes by operators on small tensors of whole numbers. Those become `sizes`, numbers that are
    known or come from the batch's size, and no tensors.
    """

    def __init__(self, model: onnx.ModelProto, shape: TensorShape) -> None:
        """`shape` is that of the program's one input."""
        self.state: dict[str, Tensor] = {}
        self.nodes: list[Call] = []
        self.scopes: dict[str, str] = {}
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        self._constants: dict[str, np.ndarray[Any, Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self._sizes: dict[str, tuple[Size, ...]] = {}
        self._values: dict[str, str] = {}
        self._places: dict[str, Places] = {}
        self._calls: dict[str, Call] = {}
        self._weights: dict[tuple[str, str], str] = {}
        batches = (shape.shape[0],) if shape.shape[0] else _BATCHES
        self._trials = [Trial({INPUT: shape}, batch, self.state.__getitem__) for batch in batches]
        # What nodes hold or give, and weights made of it: no training changes those.
        self._computed: set[str] = set()
        self.fixed: set[str] = set()
        self._taken: Counter[str] = Counter()
        self._added = {
            name: [other for other in node.input if other != name]
            for node in model.graph.node
            if node.op_type == "Add"
            for name in node.input
        }
        self.uses = Counter(name for node in model.graph.node for name in node.input)
        self.uses.update(output.name for output in model.graph.output)
        self.scope = ""
        self._elements = 0

    # What an input of a node is

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The numbers of a constant, an initializer or a shape that is known; None of a value that is computed."""
        return self._constants.get(name)

    def numbers(self, name: str) -> list[Any]:
        """A constant as a list. Raises Untranslatable for a value that is computed."""
        found = self.constant(name)
        if found is None:
            raise Untranslatable(f"its input {name[:60]!r} is not a constant")
        listed: list[Any] = found.reshape(-1).tolist()
        return listed

    def sizes(self, name: str) -> tuple[Size, ...] | None:
        """The numbers of a shape, or of a constant that can be one; None of anything else."""
        if name in self._sizes:
            return self._sizes[name]
        found = self._constants.get(name)
        if found is not None and found.dtype.kind in "iu" and found.ndim <= 1 and found.size <= _MOST_SIZES:
            return tuple(int(number) for number in found.reshape(-1))
        return None

    def places(self, name: str) -> Places | None:
        """The places that a value holds; None of one that holds something else."""
        return self._places.get(name)

    def value(self, name: str) -> ValueOf | None:
        """The program's value that an ONNX value is; None of one that is a constant or a shape."""
        return ValueOf(value=self._values[name]) if name in self._values else None

    def made_by(self, value: object) -> Call | None:
        """The call that gave a value as its first or only one; None of an input, and of what is no value."""
        return self._calls.get(value.value) if isinstance(value, ValueOf) else None

    def batch(self, value: ValueOf) -> Size:
        """How many images there are, asked of a value that has a row for each."""
        return self.call("sym_size.int", value, 0)

    def added_to(self, name: str) -> list[str]:
        """What is added to a value, where something is."""
        return self._added.get(name, [])

    def is_integral(self, name: str) -> bool:
        """Whether a value is known to be of whole numbers."""
        found = self.constant(name)
        if found is not None:
            return found.dtype.kind in "iu"
        value = self._trials[0].tensor(self._values.get(name, ""))
        return name in self._sizes or (
            value is not None and not value.is_floating_point() and value.dtype is not torch.bool
        )

    def shape(self, name: str) -> list[int | None]:
        """Sizes of a value as far as they are known before it is computed. Raises Untranslatable."""
        found = self._constants.get(name)
        if found is not None:
            return list(found.shape)
        if name in self._sizes:
            return [len(self._sizes[name])]
        shapes = [trial.shape(self._values.get(name, "")) for trial in self._trials]
        known = [shape for shape in shapes if shape is not None]
        if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1:
            raise Untranslatable(f"the shape of {name[:60]!r} is not known")
        # A size that differs between batches comes from theirs.
        return [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*known, strict=True)]

    def elements(self, values: Sequence[str]) -> int | None:
        """Elements of tensors of the program, by their own names; None where one is not known."""
        tensors = [self._trials[0].tensor(value) for value in values]
        known = [tensor.numel() for tensor in tensors if tensor is not None]
        return sum(known) if len(known) == len(tensors) else None

    def operand(self, name: str) -> ValueOf | WeightOf | float | int | bool:
        """An input as an argument: a value, a number where it is one constant number, or a weight."""
        if name in self._values:
            return ValueOf(value=self._values[name])
        found = self._constants.get(name)
        if found is not None:
            if found.ndim == 0:
                number: float | int | bool = found.item()
                return number
            return self.weight(name)
        sizes = self._sizes.get(name)
        if sizes is not None and len(sizes) == 1:
            return sizes[0]
        raise Untranslatable(f"it takes {name[:60]!r}, which is a shape or is not there")

    def tensor(self, name: str) -> ValueOf | WeightOf:
        """An input as an argument that has to be a tensor."""
        if name in self._constants and self._constants[name].ndim == 0:
            return self.weight(name)
        found = self.operand(name)
        if not isinstance(found, ValueOf | WeightOf):
            raise Untranslatable(f"it takes {name[:60]!r}, which is no tensor")
        return found

    def weight(self, name: str, role: str = "", *, own_copy: bool = False) -> WeightOf:
        """A constant as a weight under its own name or, where that says nothing of its `role`, the node's.

        Exporters keep one tensor for all that are equal, the ones and zeros of many new norms, say. With `own_copy` the
        node has one to itself; else it shares it, as a layer that is called twice does.
        """
        key = (name, f"{self.scope} {role}" if own_copy else role)
        if key not in self._weights:
            own = _sanitized(name)
            if role and not own.endswith(f".{role}"):
                own = f"{self.scope}.{role}"
            self._weights[key] = self.new_weight(own, torch.from_numpy(np.array(self._constants[name])))
            # One number is one to the operators that take a number as well, and is never trained.
            if name in self._computed or self._constants[name].ndim == 0:
                self.fixed.add(self._weights[key])
        return WeightOf(weight=self._weights[key])

    def linear_weight(self, name: str, bias: str | None) -> WeightOf:
        """A matrix (inputs, outputs) as a linear layer holds it, under the name of its bias, if it has one."""
        own = _sanitized(bias or "")
        home = own.removesuffix(".bias") if own.endswith(".bias") else self.scope
        return WeightOf(weight=self.new_weight(f"{home}.weight", torch.from_numpy(np.array(self._constants[name])).t()))

    def fixed_weight(self, role: str, numbers: np.ndarray[Any, Any]) -> WeightOf:
        """Numbers that a converter needs as a tensor; no training changes them."""
        name = self.new_weight(f"{self.scope}.{role}", torch.from_numpy(np.array(numbers)))
        self.fixed.add(name)
        return WeightOf(weight=name)

    # What a node gives

    def new_weight(self, name: str, tensor: Tensor) -> str:
        """Keep a weight under this name, or one like it."""
        self._count(tensor.numel())
        fresh = self._fresh(name, self.state)
        self.state[fresh] = tensor.contiguous()
        return fresh

    def call(self, operator: str, *arguments: Argument, outputs: int = 1, **options: Argument) -> ValueOf:
        """Add a call; gives its first value."""
        names = tuple(self._fresh("v", None) for _ in range(outputs))
        call = Call(operator=operator, arguments=arguments, options=options, outputs=names)
        self.nodes.append(call)
        self._calls[names[0]] = call
        for trial in self._trials:
            trial.add(call)
        if self.scope:
            self.scopes[names[0]] = self.scope
        return ValueOf(value=names[0])

    def gives(self, name: str, value: ValueOf) -> None:
        """The ONNX value `name` is `value` of the program; without a name it is one that nothing takes."""
        if name:
            self._values[name] = value.value

    def gives_sizes(self, name: str, sizes: Sequence[Size], rank: int = 1) -> None:
        """The ONNX value `name` is a shape, or of rank 0 one number of a shape; a constant where all of it is known."""
        if all(isinstance(size, int) for size in sizes):
            self.gives_constant(name, np.array(sizes, dtype=np.int64).reshape((-1,) if rank else ()))
        elif len(sizes) > _MOST_SIZES:
            raise Untranslatable(f"it makes a shape of more than {_MOST_SIZES} numbers")
        else:
            self._sizes[name] = tuple(sizes)

    def gives_constant(self, name: str, found: np.ndarray[Any, Any]) -> None:
        """The ONNX value `name` is a constant."""
        self._count(found.size)
        self._values.pop(name, None)
        self._constants[name] = found
        self._computed.add(name)

    def gives_places(self, name: str, places: Places) -> None:
        """The ONNX value `name`, whatever else it is, holds these places."""
        self._places[name] = places

    def same(self, name: str, other: str) -> None:
        """The ONNX value `name` is what `other` is."""
        for table in (self._constants, self._sizes, self._values):
            if other in table:
                table[name] = table[other]  # type: ignore[assignment]
                return
        raise Untranslatable(f"it takes {other[:60]!r}, which is not there")

    def last_outputs(self) -> tuple[str, ...]:
        """Names of all values of the last call."""
        return self.nodes[-1].outputs

    def value_name(self, name: str) -> str:
        """The program's name of an ONNX value. Raises InvalidModel for one that is none."""
        if name not in self._values:
            raise InvalidModel(f"the graph's output {name[:60]!r} is not computed from its input")
        return self._values[name]

    def _count(self, elements: int) -> None:
        """Note that so many elements are held from now on. Small files can ask for many copies of one constant."""
        self._elements += elements
        if self._elements > MOST_ELEMENTS:
            raise InvalidModel(f"the ONNX model makes constants and weights of more than {MOST_ELEMENTS:,} elements")

    def _fresh(self, name: str, among: dict[str, Tensor] | None) -> str:
        while True:
            self._taken[name] += 1
            fresh = name if self._taken[name] == 1 and among is not None else f"{name}_{self._taken[name]}"
            if among is None or fresh not in among:
                return fresh


def _sanitized(name: str) -> str:
    """A name of letters, digits, underscores, hyphens and dots like an exporter's own."""
    parts = [re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in re.split(r"[./]", name)]
    return ".".join(part for part in parts if part)[:400] or "weight"


def scope_of(node: onnx.NodeProto) -> str:
    """The module that a node came from, where its name tells.

    torch's older exporter names a node `/layer1/layer1.0/conv1/Conv`: a path in which a module within a `Sequential`
    has the whole of its name. The newer one (`node_conv2d_3`) tells nothing, nor do others.
    """
    called = node.name or next((name for name in node.output if name), "")
    parts = [part for part in called.split("/") if part]
    return _sanitized(".".join(_without_repeats(parts[:-1]) if len(parts) > 1 else parts))


def _without_repeats(parts: Sequence[str]) -> list[str]:
    """`layer1, layer1.0, conv1` is `layer1.0, conv1`."""
    kept: list[str] = []
    for part in parts:
        if kept and part.startswith(f"{kept[-1]}."):
            kept[-1] = part
        else:
            kept.append(part)
    return kept
