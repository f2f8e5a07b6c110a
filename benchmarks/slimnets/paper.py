"""What SlimNets reports (arXiv 1808.00496): CIFAR-10 without losses, VGG-19 of 20.6 M parameters as the original."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "SlimNets (arXiv 1808.00496)"
ORIGINAL_TOP1 = 0.924
ORIGINAL_MEGABYTES = 78.4
STUDENT_EPOCHS, LOW_RANK_EPOCHS, PRUNING_STEPS = 300, 274, 100_000


@dataclass(frozen=True)
class Published:
    """One figure of the paper."""

    top1: float
    ratio: float | None = None  # bytes of the original over those of the result; None where the paper gives none
    base: float = ORIGINAL_TOP1  # top-1 of the original that the figure stands beside

    @property
    def retention(self) -> float:
        """Share of the original's accuracy that is kept."""
        return self.top1 / self.base


RANKS = (5, 24, 48, 48, 64, 128, 128, 160, 192, 256, 320, 320, 320, 320, 320, 320)
"""Of the 16 convolutions, in the network's order."""

LOW_RANK = Published(0.9327, ratio=78.4 / 32.3, base=0.9243)

# Zeros are not left out of the paper's files, so these have no ratio.
GRADUAL = {0.4: Published(0.9222), 0.75: Published(0.9157), 0.875: Published(0.8882)}
ONE_SHOT = {0.4: Published(0.8969), 0.75: Published(0.8913), 0.875: Published(0.8616)}

STUDENTS = {
    "snn_1k": Published(0.7696),
    "snn_10k": Published(0.7717),
    "cnn_1k": Published(0.7907),
    "cnn_10k": Published(0.8085),
    "alexnet_cifar": Published(0.7227),
    "nin_cifar": Published(0.8888, ratio=20.7),
}
DISTILLED = {
    "snn_1k": Published(0.7787),
    "snn_10k": Published(0.7919),
    "cnn_1k": Published(0.8123),
    "cnn_10k": Published(0.8223),
    "alexnet_cifar": Published(0.8078),
    "nin_cifar": Published(0.9057, ratio=20.7),
}
# By sparsity of the distilled NIN; "83-85x" is what the paper says of the second, its best.
DISTILLED_THEN_PRUNED = {0.4: Published(0.8929), 0.75: Published(0.8869, ratio=85.0), 0.875: Published(0.8544)}
