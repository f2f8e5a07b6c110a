"""A plain convolutional network of eight layers for 32x32 images, which few epochs train well.

The network of Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498), but for its GELU, its
frozen first layer of whitening filters and its norms without scales: a convolution of 2x2, three groups of two
convolutions with the pooling inside the group, and scores that are scaled down.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

STEM = 24
CHANNELS = (64, 256, 256)
SCORE_SCALE = 1 / 9


class ConvNet8(nn.Module):
    """Input (B, in_channels, H, W), any size of at least 9; output (B, num_classes).

    `width` multiplies the channel counts of the groups, rounded, at least 1.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, STEM, 2), relu=nn.ReLU()))
        channels = [max(1, round(count * width)) for count in CHANNELS]
        before = (STEM, *channels)
        self.group1, self.group2, self.group3 = (
            _group(inside, outside) for inside, outside in zip(before, channels, strict=False)
        )
        self.linear = nn.Linear(channels[-1], num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, H, W)."""
        x = self.group3(self.group2(self.group1(self.stem(images))))
        # Small scores leave a high learning rate stable in the first steps.
        scores: Tensor = self.linear(x.amax((2, 3))) * SCORE_SCALE
        return scores


def _group(in_channels: int, channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, channels, H // 2, W // 2)."""
    return nn.Sequential(
        OrderedDict(
            conv1=_convolution(in_channels, channels),
            pool=nn.MaxPool2d(2),
            norm1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(),
            conv2=_convolution(channels, channels),
            norm2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
        )
    )


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    """Its first outputs are its inputs at the beginning, so that the image comes through to the scores."""
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[: min(in_channels, channels)])
    return convolution
