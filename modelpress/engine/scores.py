"""What a network says of the classes as scores, of which a softmax makes probabilities; also where it gives these."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.graphs.network import ends_in_softmax, with_log_softmax

# In the place of zero, whose logarithm is infinite: the smallest that fp32 has all digits of, so that no two other
# probabilities become one.
_LEAST = torch.finfo(torch.float32).tiny


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    """The class scores (B, K), float32, that `module` gives for normalised images (B, C, H, W); with gradients.

    Of a network that ends in a softmax the logarithms of its probabilities, which are scores of the same
    probabilities: cross-entropy, divergences and temperatures mean what they do elsewhere. In training mode GoogLeNet
    and Inception give a tuple with the scores of their auxiliary heads behind.
    """
    with with_log_softmax(module):
        outputs = module(images)
    first: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return first.float()


def scores_of(module: nn.Module, outputs: Tensor) -> Tensor:
    """Scores (N, K), float32, of what a file of `module` gave in another runtime.

    A probability of zero, as files of 8 bits give many, counts as 1.2e-38: 87 nats, where it is that of the label.
    """
    outputs = outputs.float()
    return outputs.clamp(min=_LEAST).log() if ends_in_softmax(module) else outputs
