"""Where a graph ends in a softmax."""

from __future__ import annotations

from modelpress.spec.graph import Graph, LayerCall, values_of

# Layers and operators.
SOFTMAXES = frozenset({"Softmax", "softmax.int", "_softmax.default"})

# What may stand behind it, and leaves its numbers as they are: shapes and types.
PLAIN = frozenset(
    {
        "Flatten",
        *("flatten.using_ints", "reshape.default", "view.default", "view_as.default", "contiguous.default"),
        *("_unsafe_view.default", "reshape_as.default", "squeeze.default", "squeeze.dim", "squeeze.dims"),
        *("unsqueeze.default", "clone.default", "alias.default"),
        *("to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy.default"),
    }
)


def softmax_at_end(graph: Graph) -> int | None:
    """Index of the node whose probabilities the graph's first output has; None where it has other numbers."""
    wanted = graph.outputs[0]
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if wanted not in node.outputs:
            continue
        kind = graph.layers[node.layer].type if isinstance(node, LayerCall) else node.operator
        taken = values_of(node)
        if not taken:
            return None
        if kind in SOFTMAXES:
            return index
        if kind not in PLAIN:
            return None
        wanted = taken[0]
    return None
