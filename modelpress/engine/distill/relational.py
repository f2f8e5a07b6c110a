"""Relational distillation: how images lie to each other, not where (Park et al. 2019, arXiv 1904.05068)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.engine.distill.features import FeatureLoss
from modelpress.engine.distill.hinton import HintonLoss

# Triplets grow with the cube: 128 images make two million.
MOST_IMAGES = 128

# Squared distances below this share of their mean are none: their direction, and its gradient, would be noise.
_COINCIDENT = 1e-12


class RelationalLoss(FeatureLoss):
    """Hinton's loss, plus `distance` times the distance loss and `angle` times the angle loss (equations 6 and 8).

    Both compare embeddings, which the two networks' `taught` and `learnt` hold after a forward pass (one entry each):
    what the last layer with weights is given, (B, D), or (B, D, H, W) averaged over its pixels. The student's D may
    differ from the teacher's. Of a batch the first `MOST_IMAGES` images are related to each other.
    """

    def __init__(
        self,
        hinton: HintonLoss,
        taught: Mapping[str, Tensor],
        learnt: Mapping[str, Tensor],
        *,
        distance: float,
        angle: float,
    ) -> None:
        super().__init__(hinton, taught, learnt)
        self._distance = distance
        self._angle = angle

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K)."""
        value = self._hinton(outputs, labels, images)
        (learnt,), (taught,) = self._learnt.values(), self._taught.values()
        with torch.autocast(outputs.device.type, enabled=False):
            distance, angle = relational_losses(_embedding(learnt), _embedding(taught))
        return value + self._distance * distance + self._angle * angle


def relational_losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The distance loss and the angle loss of embeddings (B, D), in float64.

    Distances are divided by their mean over the pairs; angles are cosines at the middle image of each triplet. Huber
    losses of both, means over the pairs and triplets of distinct images; 0 where there are too few images for one.
    """
    count = len(student)
    distinct = ~torch.eye(count, dtype=torch.bool, device=student.device)
    found, wanted = _relations(student, distinct), _relations(teacher, distinct)
    # Triplets (i, j, k), with the angle at j.
    triplets = distinct[:, :, None] & distinct[None, :, :] & distinct[:, None, :]
    losses = [
        (F.smooth_l1_loss(one, other, reduction="none") * among).sum() / among.sum().clamp(min=1)
        for one, other, among in zip(found, wanted, (distinct, triplets), strict=True)
    ]
    return losses[0], losses[1]


def _relations(embedding: Tensor, distinct: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, B) over their mean, and cosines (B, B, B) at the second image."""
    centred = embedding.double()
    centred = centred - centred.mean(0)
    products = centred @ centred.T
    norms = products.diagonal()
    squares = norms[:, None] + norms[None, :] - 2 * products
    apart = distinct & (squares > _COINCIDENT * squares.detach().mean())
    # The root's gradient at 0 is infinite, even where it is masked afterwards.
    distances = squares.where(apart, torch.ones_like(squares)).sqrt()
    # <t_i - t_j, t_k - t_j> at [i, j, k]
    dots = products[:, None, :] - products[:, :, None] - products.T[None, :, :] + norms[None, :, None]
    cosines = dots / (distances[:, :, None] * distances.T[None, :, :])
    cosines = cosines.where(apart[:, :, None] & apart.T[None, :, :], torch.zeros_like(cosines))
    distances = distances * apart
    mean = distances.sum() / distinct.sum().clamp(min=1)
    return distances / mean.clamp(min=torch.finfo(mean.dtype).tiny), cosines


def _embedding(given: Tensor) -> Tensor:
    embedding = given[:MOST_IMAGES]
    return embedding.flatten(2).mean(2) if embedding.ndim > 2 else embedding
