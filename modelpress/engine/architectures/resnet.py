"""ResNets for CIFAR (He et al. 2015, arXiv 1512.03385, section 4.2): 6n + 2 layers of 16, 32 and 64 channels.

Not torchvision's ImageNet ResNets: those go by their own names. Layer names are the ones that most public CIFAR
weights use (conv1, bn1, layer1..3, linear).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.architectures.initialisation import initialise


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A of the paper)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.added = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.added == 0:
            return x
        # Every other pixel; the added channels are zeros, half before and half after the old ones.
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))


class ResNet(nn.Module):
    """Input (B, in_channels, H, W), any size of at least 4; output (B, num_classes).

    `width` multiplies every channel count, rounded, at least 1.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        first, second, third = (max(1, round(channels * width)) for channels in (16, 32, 64))
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _group(first, first, blocks, stride=1)
        self.layer2 = _group(first, second, blocks, stride=2)
        self.layer3 = _group(second, third, blocks, stride=2)
        self.linear = nn.Linear(third, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        scores: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return scores


def _group(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(in_channels, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))
