"""The bits that the compact container takes for quantized weights, and how they change as a weight moves.

The container codes each weight's level k with about L[k] = -log2 p[k] bits, where p[k] is the share of that level among
the weights of the same context: a class of rows and a class of columns (`formats/contexts.py`). A weight w = s u
between two levels, k <= u <= k + 1, counts here as if it were rounded up with probability u - k:

    bits(u) = (k + 1 - u) L[k] + (u - k) L[k + 1]        d bits / d u = L[k + 1] - L[k]

This is the rate of Oktay et al. (arXiv 1906.06624, eq. 4) and LilNetX (arXiv 2204.02965, eq. 5) with the model of
probabilities that the file is coded with, and with the mean over the rounding in closed form in place of noise that is
drawn. No gradient has to go through L: where p are the shares n[k] / N, sum_k n[k] d(-log2 p[k]) = 0.

Example: among 16 weights of the levels -1, 0, 1 there are 2, 12, 2: L = 3, 0.4, 3 bits. At u = 0.25 a weight counts
0.75 * 0.4 + 0.25 * 3 = 1.1 bits, and each step up costs 2.6: it is pulled to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modelpress.engine.formats.contexts import MOST_CLASSES, Layout, choose_classes

MOST_CONTEXTS = MOST_CLASSES**2


@dataclass(frozen=True)
class CodedLength:
    """What weights in units of their steps take, in bits."""

    bits: Tensor  # float32 (), of the nearest levels, without what the decoder must be told
    slopes: Tensor  # float32, of the units' shape: bits by which a weight's expected length grows for a step up


def find_contexts(indices: Tensor, levels: int) -> Tensor:
    """The context of each weight of the container's own choice: uint8, of the shape of `indices` (C, ...)."""
    symbols = indices.to("cpu", torch.uint8).contiguous().numpy().reshape(-1)
    layout = Layout.of(indices.shape)
    contexts = choose_classes(symbols, levels, layout).contexts(layout)
    if contexts is None:
        return torch.zeros(indices.shape, dtype=torch.uint8, device=indices.device)
    return torch.from_numpy(contexts).view(indices.shape).to(indices.device)


def code_lengths(indices: Tensor, contexts: Tensor, levels: int) -> Tensor:
    """-log2 p of each level in each context, float32 (MOST_CONTEXTS, levels), by how often it comes there.

    Half a weight is added to each count (Krichevsky and Trofimov 1981), so that a level that no weight has can come.
    """
    counts = _counts(indices, contexts, levels).float() + 0.5
    return counts.sum(1, keepdim=True).log2() - counts.log2()


def nearest_levels(units: Tensor, levels: int) -> Tensor:
    """Index of the level nearest to each weight in units of its step, int64; of `levels` whole numbers around zero."""
    most = levels // 2
    return units.clamp(-most, most).round().long() + most


def coded_length(units: Tensor, contexts: Tensor, levels: int) -> CodedLength:
    """Of weights (C, ...) in units of their steps, whose levels are the whole numbers around zero (`levels`, odd).

    A weight beyond the last level is pulled back as one just before it is: as for rounding, so for clipping the
    training takes the identity, and nothing else would bring it back. It is never pulled farther out, where the last
    level is commoner than the one before: that would feed on itself, as a step that shrinks clips still more weights.
    """
    most = levels // 2
    clipped = units.clamp(-most, most)
    indices = nearest_levels(units, levels)
    lengths = code_lengths(indices, contexts, levels)
    bits = (lengths * _counts(indices, contexts, levels)).sum()
    below = (clipped.floor().long() + most).clamp_(max=levels - 2)
    # (contexts, levels - 1): what the step from each level to the next one costs
    rises = lengths.diff(dim=1)
    slopes = rises.flatten()[contexts.long() * (levels - 1) + below]
    outwards = (units.abs() > most) & (slopes * units < 0)
    return CodedLength(bits, slopes.masked_fill_(outwards, 0.0))


def _counts(indices: Tensor, contexts: Tensor, levels: int) -> Tensor:
    pairs = contexts.long() * levels + indices
    return torch.bincount(pairs.flatten(), minlength=MOST_CONTEXTS * levels).view(MOST_CONTEXTS, levels)
