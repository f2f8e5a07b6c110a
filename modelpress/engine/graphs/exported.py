"""A network from a program that a user exported: lifted, and shown to give what the program gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.graphs.batch import exported_batch, free_batch
from modelpress.engine.graphs.lift import Program, lift, run
from modelpress.engine.graphs.network import GraphNetwork, assembled
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Argument, Call, DataType, Graph, TensorShape

DYNAMIC = (
    "export it for batches of any size:\n"
    '    batch = torch.export.Dim("batch", min=1, max=4096)\n'
    "    program = torch.export.export(model.eval(), (torch.randn(2, 3, 224, 224),), dynamic_shapes=({0: batch},))\n"
    '    torch.export.save(program, "model.pt2")'
)

_BATCH = 3
# What the order of additions may make of a batch of another size, of the largest output.
_TOLERANCE = 1e-4
_WIDE = ("float16", "bfloat16", "float64")

# What operators raise for arguments that make no sense to them.
_FAILED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def lifted_network(program: Program) -> GraphNetwork:
    """The program in fp32 as a module in evaluation mode, for batches of any size, with layers where there are some.

    Raises InvalidModel when it does not run, when it is bound to its batch size, or when the lifted network does not
    give exactly what the program gives.
    """
    program = in_fp32(program)
    batch = exported_batch(program)
    try:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            if batch is not None:
                program = _freed(program, batch, generator)
            inputs = random_inputs(program.graph, _BATCH, generator)
            wanted, shapes = run(program, inputs)
            lifted = lift(program, shapes)
            network = assembled(lifted.graph, lifted.state)
            given = network(*inputs)
            turned = network(*map(_channels_last, inputs))
    except _FAILED as error:
        ran_out = exhaustion(error, "running the network's graph")
        if ran_out is not None:
            raise ran_out from error
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
        raise InvalidModel(f"the network's graph does not run on a batch of {_BATCH} ({reason}); {DYNAMIC}") from error
    if difference(wanted, given) != 0:
        raise InvalidModel(
            f"the network's layers give outputs that differ by {difference(wanted, given):.3g} from what its graph "
            "gives, where they have to be the same; report this file to the makers of ModelPress"
        )
    if difference(wanted, turned) > _TOLERANCE * _largest(wanted):
        raise InvalidModel(
            "the network gives other outputs for the same images in another layout (channels last), as it writes into "
            "a view of them; use `reshape` and operators that do not write in place, and export it again"
        )
    return network


def _channels_last(images: Tensor) -> Tensor:
    """The same numbers, laid out as data sets give images."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def _largest(outputs: Any) -> float:
    """The largest floating number of outputs, 1 at least."""
    each = outputs if isinstance(outputs, tuple) else (outputs,)
    floating = [one for one in each if isinstance(one, Tensor) and one.is_floating_point() and one.numel()]
    return max([1.0, *(float(one.abs().max()) for one in floating)])


def random_inputs(graph: Graph, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A batch of normal numbers for each input, or of small whole ones for inputs of whole numbers."""
    made = []
    for shape in graph.inputs.values():
        dtype = getattr(torch, shape.dtype.dtype)
        size = (batch, *shape.shape[1:])
        if dtype.is_floating_point:
            made.append(torch.randn(size, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, size, generator=generator).to(dtype))
    return tuple(made)


def difference(one: Any, other: Any) -> float:
    """The largest absolute difference between outputs; infinite where their shapes differ. NaNs equal NaNs."""
    ones, others = (each if isinstance(each, tuple) else (each,) for each in (one, other))
    largest = 0.0
    for first, second in zip(ones, others, strict=True):
        if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
            return float("inf")
        if not torch.equal(first.isnan(), second.isnan()):
            return float("inf")
        unequal = (first != second) & ~first.isnan()
        if unequal.any():
            largest = max(largest, float((first[unequal].double() - second[unequal].double()).abs().max()))
    return largest


def _freed(program: Program, batch: int, generator: torch.Generator) -> Program:
    """The program for any batch. Raises InvalidModel when it cannot be freed of its own."""
    inputs = random_inputs(program.graph, batch, generator)
    wanted = assembled(program.graph, program.state)(*inputs)
    freed = free_batch(program, batch)
    refusal = InvalidModel(f"the model was exported for batches of {batch} alone; {DYNAMIC}")
    try:
        network = assembled(freed.graph, freed.state)
        same = network(*inputs)
        # One image more, which must change nothing for the others.
        other = random_inputs(program.graph, 1, generator)
        more = network(*(torch.cat([each, one]) for each, one in zip(inputs, other, strict=True)))
    except _FAILED as error:
        raise refusal from error
    firsts = tuple(each[:batch] for each in more) if isinstance(more, tuple) else more[:batch]
    if difference(wanted, same) != 0 or difference(wanted, firsts) > _TOLERANCE * _largest(wanted):
        raise refusal
    return freed


def in_fp32(program: Program) -> Program:
    """The program with its floating numbers in fp32, as everything is computed and stored here."""
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in program.state.items()}
    graph = program.graph

    def plain(argument: Argument) -> Argument:
        return DataType(dtype="float32") if isinstance(argument, DataType) and argument.dtype in _WIDE else argument

    def shaped(shape: TensorShape) -> TensorShape:
        return shape.model_copy(update={"dtype": plain(shape.dtype)})

    nodes = [
        node.model_copy(
            update={
                "arguments": tuple(plain(argument) for argument in node.arguments),
                "options": {name: plain(argument) for name, argument in node.options.items()},
            }
        )
        if isinstance(node, Call)
        and any(isinstance(argument, DataType) for argument in (*node.arguments, *node.options.values()))
        else node
        for node in graph.nodes
    ]
    changed = graph.model_copy(
        update={
            "nodes": tuple(nodes),
            "inputs": {name: shaped(shape) for name, shape in graph.inputs.items()},
            "weights": {name: shaped(shape) for name, shape in graph.weights.items()},
        }
    )
    return replace(program, graph=changed, state=state)
