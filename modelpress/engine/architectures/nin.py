"""Network in network (Lin et al. 2013, arXiv 1312.4400), the student of SlimNets' best recipe; no batch norm."""

from __future__ import annotations

from torch import Tensor, nn

from modelpress.engine.architectures.initialisation import initialise


class NIN(nn.Module):
    """Three groups of one convolution and two 1x1 ones; the class scores are means over the last maps.

    Input (B, in_channels, H, W); output (B, num_classes). There is no ReLU on the class maps: a distilled student
    must be able to give the teacher's negative scores.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(in_channels, 192, 5),
            *_convolution(192, 160, 1),
            *_convolution(160, 96, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(),
            *_convolution(96, 192, 5),
            *_convolution(192, 192, 1),
            *_convolution(192, 192, 1),
            nn.AvgPool2d(3, stride=2, padding=1),
            nn.Dropout(),
            *_convolution(192, 192, 3),
            *_convolution(192, 192, 1),
            nn.Conv2d(192, num_classes, 1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, H, W)."""
        scores: Tensor = self.pool(self.features(images)).flatten(1)
        return scores


def _convolution(in_channels: int, channels: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2), nn.ReLU(inplace=True)
