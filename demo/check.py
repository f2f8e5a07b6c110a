"""The user's own look at a downloaded file: load it in one line and count what it gets right."""

from __future__ import annotations

from pathlib import Path

import torch

import modelpress
from demo.prepared import Prepared
from modelpress.client import ModelPressError
from modelpress.spec.report import Report

BATCH = 500
# Another batch size may turn the order of two outputs that are equal to the last bits.
EXAMPLES_PER_TIE = 5000


class FigureMismatch(ModelPressError):
    """A downloaded file does not reach the accuracy that its report states."""


def check_accuracy(path: Path, report: Report, prepared: Prepared) -> float:
    """Top-1 accuracy (0..1) of a downloaded artifact on the held-out images. Raises FigureMismatch."""
    network = modelpress.load(path)
    channels = (1, -1, 1, 1)
    seen = report.network.preprocessing or prepared.preprocessing
    mean, std = torch.tensor(seen.mean).view(channels), torch.tensor(seen.std).view(channels)
    right = 0
    with torch.inference_mode():
        for images, labels in zip(
            prepared.heldout_images.split(BATCH), prepared.heldout_labels.split(BATCH), strict=True
        ):
            outputs = network((images.float() / 255 - mean) / std)
            right += int((outputs.argmax(dim=1) == labels).sum())
    examples = len(prepared.heldout_labels)
    stated = report.final.accuracy
    if stated is None or abs(round(stated.top1 * examples) - right) > examples // EXAMPLES_PER_TIE:
        raise FigureMismatch(
            f"{path} gets {right} of {examples} held-out images right; its report states "
            f"{'nothing' if stated is None else f'{stated.top1:.4f}'}"
        )
    return right / examples
