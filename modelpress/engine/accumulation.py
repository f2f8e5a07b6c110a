"""The gradients of one batch: of all of it at once, or of parts one after the other, which takes less memory."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.mixed_labels import leading_labels
from modelpress.engine.loss import Loss, Origin
from modelpress.engine.scores import logits_of


def accumulate(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    arithmetic: Arithmetic,
    origin: Origin | None,
    least: int,
    labelled: Tensor | None = None,
) -> Tensor:
    """Gradients of the mean loss of some images, whose `origin` is told to the loss, and how many count as `labelled`.

    In as many parts as `arithmetic` says, as far as each gets `least` images. Each part's mean counts by its share of
    the images, so that the gradients are those of the whole batch, to rounding: unless the network averages over a
    batch (batch norm), or the loss compares images with one another.

    Returns figures (3,), float32: the loss, the number of right answers, and of images that have a label.
    """
    whole = len(images)
    parts = max(1, min(arithmetic.accumulation, whole // least))
    figures = torch.zeros(3, device=images.device)
    for begin, end in pairwise(whole * part // parts for part in range(parts + 1)):
        share = (end - begin) / whole
        part = None if origin is None else origin.part(begin, end)
        loss.follow(part, None if labelled is None else labelled * share)
        found = _forward_backward(module, images[begin:end], labels[begin:end], loss, arithmetic, share)
        figures[0] += found[0] * share
        figures[1:] += found[1:]
    return figures


def _forward_backward(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    arithmetic: Arithmetic,
    share: float,
) -> Tensor:
    """Add gradients of `share` times the mean loss to those that are there; gives the figures of these images."""
    with arithmetic.autocast(images.device):
        outputs = logits_of(module, images)
        value = loss(outputs, labels, images)
    torch.autograd.backward(value, torch.full_like(value, share))
    leading = leading_labels(labels)
    hits = (outputs.detach().argmax(1) == leading).sum()
    return torch.stack([value.detach().float(), hits.float(), (leading != UNLABELLED).sum().float()])
