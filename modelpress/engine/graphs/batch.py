"""A program that was exported for one batch size, made to take any.

Such a graph says the batch's size where it reshapes: `view(x, [2, 512])`. Which of its numbers are the batch is a guess
that is tried out: what does not give the same for another batch is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelpress.engine.graphs.lift import Program
from modelpress.spec.graph import Argument, Call, Graph, TensorShape, ValueOf

_BATCH = "batch_size_of_the_input"
# The operator's argument that is a shape, with the batch first.
_RESHAPES = {"view.default", "reshape.default", "_unsafe_view.default"}
_SHAPED = {
    "expand.default": 1,
    "new_zeros.default": 1,
    "new_ones.default": 1,
    "new_full.default": 1,
    "zeros.default": 0,
    "ones.default": 0,
    "full.default": 0,
}


def exported_batch(program: Program) -> int | None:
    """The one batch size that the program was exported for; None when it takes any."""
    first = next(iter(program.graph.inputs.values())).shape[0]
    return first or None


def free_batch(program: Program, batch: int) -> Program:
    """The same for batches of any size, as far as shapes that begin with a multiple of `batch` tell."""
    graph = program.graph
    first = next(iter(graph.inputs))
    count = Call(operator="sym_size.int", arguments=(ValueOf(value=first), 0), outputs=(_BATCH,))
    nodes = [_freed(node, batch) if isinstance(node, Call) else node for node in graph.nodes]
    inputs = {name: TensorShape(shape=(0, *shape.shape[1:]), dtype=shape.dtype) for name, shape in graph.inputs.items()}
    freed = Graph(
        inputs=inputs, layers=graph.layers, weights=graph.weights, nodes=(count, *nodes), outputs=graph.outputs
    )
    return replace(program, graph=freed)


def _freed(call: Call, batch: int) -> Call:
    if call.operator in _RESHAPES:
        at = 1
    elif call.operator in _SHAPED:
        at = _SHAPED[call.operator]
    else:
        return call
    shape = call.arguments[at] if len(call.arguments) > at else None
    if not isinstance(shape, tuple) or not shape:
        return call
    size = shape[0]
    if type(size) is not int or size <= 0 or size % batch:
        return call
    return call.model_copy(
        update={"arguments": _replaced(call.arguments, at, _shape(shape, size == batch, call.operator in _RESHAPES))}
    )


def _shape(shape: tuple[Argument, ...], is_batch: bool, can_infer: bool) -> tuple[Argument, ...]:
    if is_batch:
        return (ValueOf(value=_BATCH), *shape[1:])
    # Windows of all images in a row: as many as the rest leaves, where nothing else is left open.
    return (-1, *shape[1:]) if can_infer and -1 not in shape else shape


def _replaced(arguments: Sequence[Argument], at: int, value: tuple[Argument, ...]) -> tuple[Argument, ...]:
    return (*arguments[:at], value, *arguments[at + 1 :])  # type: ignore[arg-type]
