"""What an ONNX graph computes from constants alone is computed once, as it is read.

Exporters write down masks of windows, tables of positions and transposed weights as operators on constants. Folded, a
mask is one weight and a transposed matrix that of a linear layer.
"""

from __future__ import annotations

from typing import Any

import torch

from modelpress.engine.graphs.network import called
from modelpress.engine.graphs.onnx.translation import Translation
from modelpress.spec.graph import Call, ValueOf, items_of

# Of all that one node makes, those in between too. What is larger stays as it is, and is computed in each run.
MOST_FOLDED = 1 << 26

# What operators raise for arguments without sense.
_FAILED = (ArithmeticError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


def fold(on: Translation, outputs: list[str], first: int) -> None:
    """Take back the calls from the index `first` on, which gave `outputs`, where they need no images: run them now.

    They are left as they are where they make too much, or something that depends on the numbers in more than its
    values.
    """
    calls = on.nodes[first:]
    made = tuple(name for call in calls for name in call.outputs)
    results = {name: value.value for name in outputs if (value := on.value(name)) is not None}
    taken = {item.value for call in calls for item in items_of(call) if isinstance(item, ValueOf)}
    if not calls or not {*taken, *results.values()} <= {*made}:
        return
    elements = on.elements(made)
    if elements is None or elements > MOST_FOLDED:
        return
    values: dict[str, Any] = {}
    try:
        for call in calls:
            values.update(called(call, values, on.state.__getitem__, torch.device("cpu")))
        constants = {name: values[value].contiguous().numpy() for name, value in results.items()}
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
