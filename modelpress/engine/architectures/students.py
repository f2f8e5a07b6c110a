"""The small students of SlimNets (arXiv 1808.00496): two convolutions, then one (SNN) or two (CNN) hidden layers."""

from __future__ import annotations

from torch import Tensor, nn

from modelpress.engine.architectures.initialisation import initialise

LAST_HIDDEN = 84


class SNN(nn.Module):
    """Shallow network: `hidden` units between the convolutions and the class scores.

    Input (B, in_channels, 32, 32): 32 -5x5-> 28 -pool-> 14 -5x5-> 10 -pool-> 5, 16 x 5 x 5 = 400 features.
    Output (B, num_classes).
    """

    def __init__(self, hidden: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features = _features(in_channels)
        self.classifier = nn.Sequential(nn.Linear(400, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, num_classes))
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, 32, 32)."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


class CNN(nn.Module):
    """An SNN with one more hidden layer, of 84 units. Shapes as there."""

    def __init__(self, hidden: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features = _features(in_channels)
        self.classifier = nn.Sequential(
            nn.Linear(400, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, LAST_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(LAST_HIDDEN, num_classes),
        )
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, 32, 32)."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


def _features(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
