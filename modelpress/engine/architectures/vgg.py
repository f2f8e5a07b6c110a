"""VGG for 32x32 images (Simonyan and Zisserman 2014, arXiv 1409.1556, table 1), the teacher of SlimNets."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from modelpress.engine.architectures.initialisation import initialise

# Channels of the 3x3 convolutions; "M" is a 2x2 max pooling.
PLANS: dict[int, str] = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
HIDDEN = 512


class VGG(nn.Module):
    """Convolutions 3x3 in five groups, then three linear layers.

    Input (B, in_channels, 32, 32); the five poolings leave one pixel. Output (B, num_classes). `width` multiplies
    every channel count and hidden size, rounded, at least 1.
    """

    def __init__(
        self,
        depth: Literal[11, 13, 16, 19],
        norm: bool,
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for item in PLANS[depth].split():
            if item == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            wider = _scaled(int(item), width)
            layers.append(nn.Conv2d(channels, wider, 3, padding=1))
            if norm:
                layers.append(nn.BatchNorm2d(wider))
            layers.append(nn.ReLU(inplace=True))
            channels = wider
        hidden = _scaled(HIDDEN, width)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, 32, 32)."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


def _scaled(size: int, width: float) -> int:
    return max(1, round(size * width))
