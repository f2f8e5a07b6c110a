"""A program that was exported for one batch size, made to take any.

Such a graph says the batch's size where it reshapes: `view(x, [2, 512])`. Which of its numbers come from the batch is
told by runs without numbers, the original for its own batch and what is made of it for another, and is tried out
afterwards: what does not give the same for another batch is refused.
"""

from __future__ import annotations

import math
from dataclasses import replace

from modelpress.engine.graphs.lift import Program
from modelpress.engine.graphs.trial import Trial
from modelpress.spec.graph import Argument, Call, Graph, Item, TensorShape, ValueOf, WeightOf

_BATCH = "batch_size_of_the_input"
_RESHAPES = {"view.default", "reshape.default", "_unsafe_view.default"}
# The operator's argument that is a shape.
_SHAPED = {
    "expand.default": 1,
    "new_zeros.default": 1,
    "new_ones.default": 1,
    "new_full.default": 1,
    "zeros.default": 0,
    "ones.default": 0,
    "full.default": 0,
}
# Another batch is so many times as large.
_TIMES = 3


def exported_batch(program: Program) -> int | None:
    """The one batch size that the program was exported for; None when it takes any."""
    first = next(iter(program.graph.inputs.values())).shape[0]
    return first or None


def free_batch(program: Program, batch: int) -> Program:
    """The same for batches of any size, as far as the shapes of values tell where the batch's size is meant."""
    graph = program.graph
    count = Call(operator="sym_size.int", arguments=(ValueOf(value=next(iter(graph.inputs))), 0), outputs=(_BATCH,))
    nodes = _Freeing(program, batch, count).nodes()
    inputs = {name: TensorShape(shape=(0, *shape.shape[1:]), dtype=shape.dtype) for name, shape in graph.inputs.items()}
    freed = Graph(inputs=inputs, layers=graph.layers, weights=graph.weights, nodes=tuple(nodes), outputs=graph.outputs)
    return replace(program, graph=freed)


class _Freeing:
    """The state of making one program take any batch."""

    def __init__(self, program: Program, batch: int, count: Call) -> None:
        self._graph = program.graph
        self._batch = batch
        self._count = count
        self._own = Trial(program.graph.inputs, batch, program.state.__getitem__)
        self._other = Trial(program.graph.inputs, batch * _TIMES, program.state.__getitem__)

    def nodes(self) -> list[Call]:
        self._other.add(self._count)
        freed = [self._count]
        for node in self._graph.nodes:
            if not isinstance(node, Call):
                raise TypeError("a program that is to be freed of its batch has no layers yet")
            self._own.add(node)
            for call in self._freed(node):
                self._other.add(call)
                freed.append(call)
        return freed

    def _freed(self, call: Call) -> list[Call]:
        if call.operator == "cat.default":
            return self._with_rows_repeated(call)
        at = 1 if call.operator in _RESHAPES else _SHAPED.get(call.operator)
        shape = call.arguments[at] if at is not None and len(call.arguments) > at else None
        if at is None or not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
            return [call]
        taken = call.arguments[0] if at else None
        new = self._reshaped(call, taken) if call.operator in _RESHAPES else self._shaped(taken, shape)
        return [call.model_copy(update={"arguments": (*call.arguments[:at], new, *call.arguments[at + 1 :])})]

    def _reshaped(self, call: Call, taken: Argument) -> Argument:
        """The shape that a value is brought to, whose batch, and what lies in front of it, stay in front.

        A batch within (197, B, 768) is one within (197, B * 12, 64) as well: what it multiplies is the first dimension
        after those that make up the 197.
        """
        sizes = self._own.shape(call.outputs[0])
        along = self._varying(taken)
        if sizes is None or along is None or not isinstance(taken, ValueOf):
            return call.arguments[1]
        own = self._own.shape(taken.value) or ()
        before = math.prod(own[:along])
        if own[along] != self._batch:
            # It is multiplied by something already, which it may be divided from now, in front of it or behind.
            after = before * own[along]
            for index, size in enumerate(sizes):
                if size == self._batch and before <= math.prod(sizes[:index]) <= after:
                    return _with(sizes, index, ValueOf(value=_BATCH))
        for index, size in enumerate(sizes):
            if math.prod(sizes[:index]) == before and size % self._batch == 0:
                if size == self._batch:
                    return _with(sizes, index, ValueOf(value=_BATCH))
                # The last holds an image's features, which a layer takes: rows in front of it become more.
                return _with(sizes, index - 1 if index == len(sizes) - 1 > 0 else index, -1)
        return call.arguments[1]

    def _shaped(self, taken: Argument, shape: tuple[Item, ...]) -> Argument:
        """A shape that begins with the batch's size, or that what is expanded has already."""
        along = self._varying(taken)
        own = self._own.shape(taken.value) if isinstance(taken, ValueOf) else None
        if along is not None and own is not None:
            return _with(shape, len(shape) - len(own) + along, -1)
        return _with(shape, 0, ValueOf(value=_BATCH)) if shape[:1] == (self._batch,) else shape

    def _varying(self, taken: Argument) -> int | None:
        """The one dimension of a value that is larger for a larger batch; None where there is none."""
        if not isinstance(taken, ValueOf):
            return None
        own, other = self._own.shape(taken.value), self._other.shape(taken.value)
        if own is None or other is None or len(own) != len(other):
            return 0 if own else None  # not known: nearly always the first
        found = [index for index, size in enumerate(own) if other[index] == size * _TIMES]
        return found[0] if len(found) == 1 else None

    def _with_rows_repeated(self, call: Call) -> list[Call]:
        """The call, after others that repeat weights of one row for each image, which lie beside the values of images.

        So a class token was put before the patches of one image, where for more it would have been expanded.
        """
        parts = call.arguments[0]
        varying = [self._varying(part) for part in parts] if isinstance(parts, tuple) else []
        if not isinstance(parts, tuple) or self._batch != 1 or 0 not in varying or call.arguments[1:] in ((), (0,)):
            return [call]
        repeated: list[Call] = []
        new: list[Item] = []
        for part in parts:
            shape = self._graph.weights[part.weight].shape if isinstance(part, WeightOf) else ()
            if shape[:1] == (1,):
                name = f"{_BATCH}_{call.outputs[0]}_{len(new)}"
                rows = (ValueOf(value=_BATCH), *(-1,) * (len(shape) - 1))
                repeated.append(Call(operator="expand.default", arguments=(part, rows), outputs=(name,)))
                part = ValueOf(value=name)
            new.append(part)
        return [*repeated, call.model_copy(update={"arguments": (tuple(new), *call.arguments[1:])})]


def _with(shape: tuple[Item, ...], index: int, size: Item) -> tuple[Item, ...]:
    """The shape with one of its sizes replaced."""
    return (*shape[:index], size, *shape[index + 1 :])
