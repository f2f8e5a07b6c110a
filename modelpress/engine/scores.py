"""What a network says of the classes as scores, of which a softmax makes probabilities; also where it gives these."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.graphs.network import GraphNetwork, graph_of
from modelpress.spec.graph import Graph, LayerCall, values_of

# In the place of zero, whose logarithm is infinite: the smallest that fp32 has all digits of, so that no two
# probabilities become one, and none loses its gradient.
_LEAST = torch.finfo(torch.float32).tiny

# Layers and operators.
_SOFTMAXES = frozenset({"Softmax", "softmax.int", "_softmax.default"})

# What may stand behind a softmax and leaves its numbers as they are.
_SHAPING = frozenset(
    {
        "Flatten",
        *("flatten.using_ints", "reshape.default", "view.default", "view_as.default", "contiguous.default"),
        *("_unsafe_view.default", "reshape_as.default", "squeeze.default", "squeeze.dim", "squeeze.dims"),
        *("clone.default", "alias.default"),
    }
)


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    """The class scores (B, K), float32, that `module` gives for normalised images (B, C, H, W); with gradients.

    Of a network that gives probabilities their logarithms, which are scores of the same probabilities: cross-entropy,
    divergences and temperatures mean what they do elsewhere. In training mode GoogLeNet and Inception give a tuple
    with the scores of their auxiliary heads behind.
    """
    outputs = module(images)
    return scores_of(module, outputs if isinstance(outputs, Tensor) else outputs[0])


def scores_of(module: nn.Module, outputs: Tensor) -> Tensor:
    """Scores (B, K), float32, of outputs (B, K) of `module`, or of a file of it in another runtime.

    A probability of zero, as files of 8 bits give many, counts as 1.2e-38: 87 nats, where it is that of the label.
    """
    outputs = outputs.float()
    return outputs.clamp(min=_LEAST).log() if gives_probabilities(module) else outputs


def gives_probabilities(module: nn.Module) -> bool:
    """Whether a network ends in a softmax. Only graphs do, as they were exported; no architecture by name."""
    return isinstance(module, GraphNetwork) and _ends_in_softmax(graph_of(module))


def _ends_in_softmax(graph: Graph) -> bool:
    wanted = graph.outputs[0]
    for node in reversed(graph.nodes):
        if wanted not in node.outputs:
            continue
        kind = graph.layers[node.layer].type if isinstance(node, LayerCall) else node.operator
        taken = values_of(node)
        if kind not in _SHAPING or not taken:
            return kind in _SOFTMAXES
        wanted = taken[0]
    return False
