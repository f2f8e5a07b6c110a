"""The networks that formats are tried on, with weights under which every layer counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from modelpress.engine.architectures.registry import build
from modelpress.engine.architectures.torchvision import models
from modelpress.spec.architecture import ArchitectureRef

CLASSES = 10
_DEVIATION = 0.1  # of what is drawn in the place of constants
_BATCHES, _BATCH = 2, 8


@dataclass(frozen=True)
class Subject:
    """A network by its name, at one of the smallest sizes of images that it works on as it is meant to."""

    family: str  # what to call it, and what makes it differ from the others
    name: str  # of an architecture, or a key of UNNAMED
    size: int  # height and width
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        return 3, self.size, self.size

    @property
    def architecture(self) -> ArchitectureRef | None:
        """By which it is named to go with a state dict; None for a network without such a name."""
        if self.name in UNNAMED:
            return None
        return ArchitectureRef(architecture=self.name, arguments={"num_classes": CLASSES, **self.arguments})


class Segmentation(nn.Module):
    """torchvision's segmentation networks give a dict; this gives the scores of each pixel (N, classes, H, W) alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Scores of each class at each pixel."""
        scores: Tensor = self.network(images)["out"]
        return scores


class RowLSTM(nn.Module):
    """Reads the rows of an image from top to bottom as a sequence of vectors, and classifies by the last state."""

    def __init__(self, size: int, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3 * size, hidden, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, classes) of images (N, 3, H, W)."""
        rows = images.permute(0, 2, 1, 3).flatten(2)  # (N, H, 3 W)
        states, _ = self.lstm(rows)
        scores: Tensor = self.classifier(states[:, -1])
        return scores


UNNAMED: dict[str, Callable[[int], nn.Module]] = {
    "lraspp_mobilenet_v3_large": lambda _: Segmentation(
        models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, progress=False, num_classes=CLASSES
        )
    ),
    "row_lstm": RowLSTM,
}
"""By the size of the images: networks that no architecture stands for, as a user brings his own."""

SUBJECTS = (
    Subject("VGG-19, for CIFAR", "vgg19_bn_cifar", 32),
    Subject("ResNet-20, for CIFAR", "resnet20_cifar", 32),
    Subject("VGG-11", "vgg11_bn", 224),
    Subject("ResNet-18", "resnet18", 64),
    Subject("ResNet-50", "resnet50", 64),
    Subject("ResNeXt-50 32x4d", "resnext50_32x4d", 64),
    Subject("Wide ResNet-50-2", "wide_resnet50_2", 64),
    Subject("DenseNet-121", "densenet121", 64),
    Subject("MobileNetV2", "mobilenet_v2", 64),
    Subject("MobileNetV3-Small", "mobilenet_v3_small", 64),
    Subject("MobileNetV3-Large", "mobilenet_v3_large", 64),
    Subject("EfficientNet-B0", "efficientnet_b0", 64),
    Subject("MNASNet 1.0", "mnasnet1_0", 64),
    Subject("ShuffleNetV2 x1.0", "shufflenet_v2_x1_0", 64),
    Subject("SqueezeNet 1.1", "squeezenet1_1", 64),
    Subject("GoogLeNet", "googlenet", 64),
    Subject("Inception v3", "inception_v3", 96),
    Subject("RegNetX-400MF", "regnet_x_400mf", 64),
    Subject("RegNetY-400MF", "regnet_y_400mf", 64),
    Subject("ConvNeXt-Tiny", "convnext_tiny", 64),
    Subject("ViT-B/16", "vit_b_16", 64, {"image_size": 64}),
    Subject("Swin-T", "swin_t", 64),
    Subject("Swin V2-T", "swin_v2_t", 64),
    Subject("MaxViT-T", "maxvit_t", 224),
    Subject("DeiT-Tiny", "timm/deit_tiny_patch16_224", 64, {"img_size": 64}),
    Subject("ConvNeXt V2-Atto", "timm/convnextv2_atto", 64),
    Subject("GhostNet 1.0", "timm/ghostnet_100", 64),
    Subject("RepVGG-A0", "timm/repvgg_a0", 64),
    Subject("ResNeSt-14d", "timm/resnest14d", 64),
    Subject("MobileViT-XXS", "timm/mobilevit_xxs", 64),
    Subject("MLP-Mixer-S/32", "timm/mixer_s32_224", 224),
    Subject("LeViT-128S", "timm/levit_128s", 224),
    Subject("LR-ASPP on MobileNetV3-Large, segmentation", "lraspp_mobilenet_v3_large", 64),
    Subject("LSTM over the rows of an image", "row_lstm", 32),
)


def network(subject: Subject) -> nn.Module:
    """The network in evaluation mode, the same at each call.

    What an initialisation leaves constant is drawn at random, since a scale of 0 or 1e-6, a shift of 0 or equal
    embeddings would hide what becomes of them; batch norms take their statistics from batches of noise.
    """
    torch.manual_seed(0)
    reference = subject.architecture
    module = UNNAMED[subject.name](subject.size) if reference is None else build(reference)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(torch.randn_like(parameter), alpha=_DEVIATION)
        _take_statistics(module.eval(), subject.shape)
    return module


def images(subject: Subject, count: int, seed: int) -> Tensor:
    """Noise (count, C, H, W)."""
    return torch.randn(count, *subject.shape, generator=torch.Generator().manual_seed(seed))


def _take_statistics(module: nn.Module, shape: tuple[int, int, int]) -> None:
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the average over all batches: by a momentum of 0.01, nothing would come of two
        norm.train()
    for _ in range(_BATCHES):
        module(torch.randn(_BATCH, *shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
