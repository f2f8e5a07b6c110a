"""What an ONNX graph computes from constants alone is computed once, as it is read.

Exporters write down masks of windows, tables of positions and transposed weights as operators on constants. Folded, a
mask is one weight and a transposed matrix that of a linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelpress.engine.graphs.lift import loose_weights
from modelpress.engine.graphs.network import assembled
from modelpress.engine.graphs.onnx.translation import Translation
from modelpress.spec.graph import Call, Graph, TensorShape, ValueOf, WeightOf, items_of

# Of all that one node makes, those in between too. What is larger stays as it is, and is computed in each run.
MOST_FOLDED = 1 << 26

_NOTHING = "nothing"
# What operators raise that cannot tell the size of what they give without its values, or for arguments without sense.
_FAILED = (ArithmeticError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


def fold(on: Translation, outputs: list[str], first: int) -> None:
    """Take back the calls from the index `first` on, which gave `outputs`, where they need no images: run them now.

    They are left as they are where they make too much, or something that depends on the numbers in more than its
    values.
    """
    calls = on.nodes[first:]
    made = {name for call in calls for name in call.outputs}
    items = [item for call in calls for item in items_of(call)]
    results = {name: value for name in outputs if (value := on.value(name)) is not None}
    taken = {item.value for item in items if isinstance(item, ValueOf)} | {value.value for value in results.values()}
    if not calls or not taken <= made:
        return
    state = {item.weight: on.state[item.weight] for item in items if isinstance(item, WeightOf)}
    graph = Graph(
        inputs={_NOTHING: TensorShape(shape=(0,))},
        weights=loose_weights(state, set()),
        nodes=tuple(calls),
        outputs=tuple(value.value for value in results.values()),
    )
    try:
        # The first time without values, to see how much it is.
        if _elements(graph, {name: tensor.to("meta") for name, tensor in state.items()}) > MOST_FOLDED:
            return
        found = _run(graph, state)
        constants = {name: tensor.contiguous().numpy() for name, tensor in zip(results, found, strict=True)}
    except _FAILED:
        return
    del on.nodes[first:]
    for name, constant in constants.items():
        on.gives_constant(name, constant)


def without_unused(nodes: list[Call], outputs: tuple[str, ...]) -> list[Call]:
    """The calls that `outputs` are computed by, in their order."""
    needed, kept = set(outputs), []
    for call in reversed(nodes):
        if needed.isdisjoint(call.outputs):
            continue
        kept.append(call)
        needed.update(item.value for item in items_of(call) if isinstance(item, ValueOf))
    return kept[::-1]


def _elements(graph: Graph, state: dict[str, Tensor]) -> int:
    total = 0

    def see(_name: str, value: object) -> None:
        nonlocal total
        total += value.numel() if isinstance(value, Tensor) else 0

    with torch.no_grad():
        assembled(graph, state).run((torch.empty(0, device="meta"),), see)
    return total


def _run(graph: Graph, state: dict[str, Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found = assembled(graph, state).run((torch.empty(0),))
    return found if isinstance(found, tuple) else (found,)
