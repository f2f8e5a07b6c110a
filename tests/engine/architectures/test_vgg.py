"""VGG: sizes by closed form, names and outputs of the shared weights."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modelpress.engine.architectures.vgg import PLANS, VGG
from modelpress.engine.original import load_original
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.task import ModelFile

needs_data = pytest.mark.skipif("MODELPRESS_DATA" not in os.environ, reason="MODELPRESS_DATA is not set")


def closed_form(plan: str, norm: bool, classes: int, channels: int) -> int:
    """Parameters: 9 c_in c_out + c_out a convolution, 2 c_out a norm; n m + m a linear layer."""
    total = 0
    for item in plan.split():
        if item != "M":
            wider = int(item)
            total += 9 * channels * wider + wider + (2 * wider if norm else 0)
            channels = wider
    return total + 2 * (512 * 512 + 512) + 512 * classes + classes


@pytest.mark.parametrize("depth", PLANS)
@pytest.mark.parametrize("norm", [False, True])
def test_parameters_follow_the_closed_form(depth: int, norm: bool) -> None:
    module = VGG(depth, norm, num_classes=7, in_channels=1)
    assert sum(p.numel() for p in module.parameters()) == closed_form(PLANS[depth], norm, 7, 1)
    # The depth in the name counts the layers with weights.
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in module.modules()) == depth


def test_vgg19_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in VGG(19, True).parameters()) == 20_565_834


def test_width_scales_channels_and_hidden_sizes() -> None:
    half = VGG(11, True, width=0.5)
    assert half.features[0].out_channels == 32
    assert half.classifier[1].in_features == half.classifier[1].out_features == 256
    assert half(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_width_leaves_at_least_one_channel() -> None:
    thin = VGG(11, False, width=1e-6).eval()
    assert {m.out_channels for m in thin.modules() if isinstance(m, torch.nn.Conv2d)} == {1}
    assert thin(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_different_images_still_differ_after_nineteen_layers_without_norms() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        scores = VGG(19, False).eval()(torch.randn(16, 3, 32, 32))
    # PyTorch's own initialisation leaves 3e-9 here, from which no training starts.
    assert 0.01 < float(scores.std(dim=0).mean()) < 10


@needs_data
def test_shared_weights_load_strictly_and_classify_real_images() -> None:
    data = Path(os.environ["MODELPRESS_DATA"])
    model = ModelFile(
        path="vgg19-cifar10.safetensors",
        format="safetensors",
        architecture=ArchitectureRef(architecture="vgg19_bn_cifar"),
        sha256="",
    )
    module = load_original(model, data).module
    images, labels = _images(data / "cifar10-test.zip", per_class=20)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.247, 0.2435, 0.2616])
    with torch.inference_mode():
        scores = module(((images / 255).permute(0, 3, 1, 2) - mean[:, None, None]) / std[:, None, None])
    # 89.2% over all 10,000 images; 200 of them stray from that by about 2%.
    assert float((scores.argmax(1) == labels).float().mean()) > 0.8


def _images(path: Path, per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = [], []
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[0] for name in names})
        for label, kind in enumerate(classes):
            for name in [name for name in names if name.startswith(f"{kind}/")][:per_class]:
                images.append(np.asarray(Image.open(io.BytesIO(archive.read(name)))))
                labels.append(label)
    return torch.from_numpy(np.stack(images)).float(), torch.tensor(labels)
