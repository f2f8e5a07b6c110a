"""AlexNet with five convolutions for 32x32 images (after Krizhevsky et al. 2012), a student of SlimNets."""

from __future__ import annotations

from torch import Tensor, nn

from modelpress.engine.architectures.initialisation import initialise


class AlexNet(nn.Module):
    """Input (B, in_channels, 32, 32): the stride of 4 and three poolings leave one pixel. Output (B, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(256, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, 32, 32)."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores
