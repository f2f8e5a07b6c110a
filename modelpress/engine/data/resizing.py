"""Smaller images for the first part of a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.scores import logits_of
from modelpress.spec.check.misfit import shape_of
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.training import Training


def resize(images: Tensor, training: Training, step: int, steps: int) -> Tensor:
    """The images (B, C, H, W) in the size that step `step` (from 0) of `steps` has, in the layout that they came in.

    Progressive resizing (Howard 2018; Tan and Le 2021, arXiv 2104.00298, section 4): convolutions on fewer pixels take
    less time, and a network learns the coarse things first. Averaged down, so that no pixel is lost.
    """
    wanted = training.progressive_resizing
    if wanted is None or step >= wanted.until * steps:
        return images
    size = _smaller(images, wanted.scale)
    smaller = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return smaller.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def check_takes_smaller(module: nn.Module, sample: Tensor, training: Training) -> None:
    """Raises IncompatibleSpec where the network cannot take the smaller images that its training begins with.

    `sample` is a normalised batch of full size on the module's device.
    """
    wanted = training.progressive_resizing
    if wanted is None:
        return
    size = _smaller(sample, wanted.scale)
    shape = shape_of((sample.shape[1], *size))
    misfit = IncompatibleSpec(
        f"the network cannot take images of {shape} (channels x height x width), which `progressive_resizing` begins "
        "with: raise its `scale`, or drop it"
    )
    smaller = resize(sample[:2], training, 0, 1)
    was_training = module.training
    try:
        with torch.no_grad():
            outputs = logits_of(module.eval(), smaller)
    except Exception as error:
        raise exhaustion(error, f"running the network on two images of {shape}") or misfit from error
    finally:
        module.train(was_training)
    # A graph whose last maps are flattened to a fixed width makes other images of them.
    if len(outputs) != len(smaller):
        raise misfit


def _smaller(images: Tensor, scale: float) -> tuple[int, int]:
    height, width = images.shape[2:]
    return max(1, round(scale * height)), max(1, round(scale * width))
