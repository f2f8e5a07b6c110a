"""Labels of images that are mixtures of two (mixup, Zhang et al. 2018): shares of the classes.

Wherever a batch has labels they are either whole, int64 (B,) with UNLABELLED where there is none, or such shares,
float32 (B, K). A row of shares adds up to 1, or to less where one of the two images has no label.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelpress.engine.data.labelled import UNLABELLED


def class_shares(labels: Tensor, shares: Tensor, classes: int) -> Tensor:
    """Shares of the classes (B, K) where each image is mixed as `mix` does it: with the one before it in the batch.

    `labels` (B,), UNLABELLED where there is none; `shares` (B,) of the image itself. Shares 3/4 and 1/4 of images of
    class 0 and without a label: (3/4, 0, ...) and (3/4, 0, ...).
    """
    whole = (labels[:, None] == torch.arange(classes, device=labels.device)).float()
    return shares[:, None] * whole + (1 - shares[:, None]) * whole.roll(1, 0)


def leading_labels(labels: Tensor) -> Tensor:
    """The label (B,) of the larger part of each image, UNLABELLED where that has none; whole labels as they are."""
    if not labels.is_floating_point():
        return labels
    share, label = labels.max(1)
    return torch.where(share >= 0.5, label, UNLABELLED)


def labelled_share(labels: Tensor) -> Tensor:
    """How many images of the batch have a label, () float32; parts of images count as such."""
    return labels.sum() if labels.is_floating_point() else (labels != UNLABELLED).sum().float()
