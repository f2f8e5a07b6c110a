"""A residual network of eleven layers for 32x32 images, for trainings and predictions on few processor cores.

Residual blocks (He et al. 2015, arXiv 1512.03385) lie behind poolings, as in the ResNet-9 of Page 2018 ("How to train
your ResNet", DAWNBench). Here the first convolution's outputs are pooled already, and it is not padded, so that maps
are 30, 15, 7 and 3 pixels wide (Jordan 2024, arXiv 2404.00498, has 31, 15, 7 and 3). Few wide layers on small maps:
beside ResNet-20 four times the parameters at three quarters of the multiply-accumulates, and sooner computed.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from modelpress.engine.architectures.initialisation import initialise

CHANNELS = (24, 48, 96, 192)


class Residual(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels)
        self.conv2 = _convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        y: Tensor = x + self.conv2(self.conv1(x))
        return y


class ResNet11(nn.Module):
    """Input (B, in_channels, H, W), any size of at least 10; output (B, num_classes).

    `width` multiplies every channel count, rounded, at least 1.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        first, *rest = (max(1, round(channels * width)) for channels in CHANNELS)
        self.stem = _convolution(in_channels, first, padding=0)
        before = (first, *rest)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                OrderedDict(pool=nn.MaxPool2d(2), widen=_convolution(inside, outside), residual=Residual(outside))
            )
            for inside, outside in zip(before, rest, strict=False)
        )
        self.linear = nn.Linear(rest[-1], num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, H, W)."""
        x = self.layer3(self.layer2(self.layer1(self.stem(images))))
        scores: Tensor = self.linear(x.amax((2, 3)))
        return scores


def _convolution(in_channels: int, channels: int, padding: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, padding=padding, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(channels), relu=nn.ReLU()))
