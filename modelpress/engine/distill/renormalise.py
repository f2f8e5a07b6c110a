"""A network asked about images that were normalised for another one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelpress.spec.network import Preprocessing


def renormalise_inputs(module: nn.Module, given: Preprocessing, wanted: Preprocessing, device: torch.device) -> None:
    """Let `module`, which takes images (B, C, H, W) normalised as `wanted`, be called with such as `given` says.

    Both are affine in the pixel x: with y = (x - m) / s given, (x - n) / t = y s / t + (m - n) / t. The module's names
    stay what they are, as layers are watched by them.
    """
    means, deviations = (
        [torch.tensor(each, dtype=torch.float64) for each in pair]
        for pair in ((given.mean, wanted.mean), (given.std, wanted.std))
    )
    scale = (deviations[0] / deviations[1]).float().to(device).view(1, -1, 1, 1)
    shift = ((means[0] - means[1]) / deviations[1]).float().to(device).view(1, -1, 1, 1)
    module.register_forward_pre_hook(_Renormalise(scale, shift))


class _Renormalise:
    """y scale + shift in the place of a module's input y. An object, as functions within functions cannot be sent to
    the processes that share a training."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self._scale, self._shift = scale, shift

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        (images,) = inputs
        return (torch.addcmul(self._shift, images, self._scale),)
