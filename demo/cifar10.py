"""VGG-19 on CIFAR-10: from the folder that MODELPRESS_DATA names, or downloaded by torchvision and trained here."""

from __future__ import annotations

import importlib
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from demo.original import TrainingReport, train_original
from demo.prepared import Prepared
from modelpress.client import ModelPressError
from modelpress.engine.architectures.registry import build
from modelpress.engine.data.dataset import ImageData, read_dataset
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation, Training

ARCHITECTURE = ArchitectureRef(architecture="vgg19_bn_cifar", arguments={"num_classes": 10})
TRAINING = Training(
    epochs=10,
    batch_size=128,
    learning_rate=0.05,
    schedule="one_cycle",
    gradient_clip=5.0,
    augmentation=Augmentation(horizontal_flip=True, crop_padding=4),
)
WEIGHTS, FACTS = "vgg19-cifar10.safetensors", "vgg19-cifar10.json"
SPLITS = {"train": "cifar10-train.zip", "test": "cifar10-test.zip"}
SEED = 0
TIMED_IMAGES = 64


def prepare_given(source: Path, folder: Path) -> Prepared:
    """Use the trained VGG-19 and the images of `source`. Raises ModelPressError when a file is missing."""
    missing = [name for name in (WEIGHTS, FACTS, *SPLITS.values()) if not (source / name).is_file()]
    if missing:
        raise ModelPressError(f"{source} (MODELPRESS_DATA) lacks {', '.join(missing)}")
    dataset = folder / "cifar10.zip"
    join_splits({split: source / name for split, name in SPLITS.items()}, dataset)
    stated = json.loads((source / FACTS).read_text())["preprocessing"]
    return _prepared(
        "VGG-19 on CIFAR-10 (JPEG edition)",
        source / WEIGHTS,
        dataset,
        Preprocessing(mean=stated["mean"], std=stated["std"]),
        read_dataset(dataset, seed=SEED),
    )


def prepare_downloaded(folder: Path, epochs: int | None, tell: TrainingReport) -> Prepared:
    """Download CIFAR-10 and train a VGG-19 for so many epochs (None: 10). Raises ModelPressError without a network."""
    dataset = folder / "cifar10.npz"
    _download(folder / "download", dataset)
    data = read_dataset(dataset, seed=SEED)
    training = TRAINING if epochs is None else TRAINING.model_copy(update={"epochs": epochs})
    model = folder / "model.safetensors"
    train_original(ARCHITECTURE, data, training, seed=SEED, path=model, tell=tell)
    title = f"VGG-19, trained for {training.epochs} epochs, on CIFAR-10"
    return _prepared(title, model, dataset, data.statistics, data)


def join_splits(splits: dict[str, Path], target: Path) -> None:
    """One zip with a folder per split, of zips of class folders; the images' bytes are copied as they are."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as joined:
        for split, path in splits.items():
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        joined.writestr(f"{split}/{name}", archive.read(name))


def has_gpu() -> bool:
    """True when training is fast enough for the recipes as they are."""
    return torch.cuda.is_available()


def seconds_per_forward() -> float:
    """Time of VGG-19's forward pass over one image, in batches as in training."""
    device = torch.device("cuda" if has_gpu() else "cpu")
    network = build(ARCHITECTURE).to(device).eval()
    images = torch.zeros(TIMED_IMAGES, 3, 32, 32, device=device)
    with torch.inference_mode():
        network(images).sum().item()
        began = time.perf_counter()
        network(images).sum().item()
    return (time.perf_counter() - began) / TIMED_IMAGES


def _prepared(title: str, model: Path, dataset: Path, preprocessing: Preprocessing, data: ImageData) -> Prepared:
    return Prepared(
        title=title,
        architecture=ARCHITECTURE,
        model=model,
        dataset=dataset,
        preprocessing=preprocessing,
        heldout_images=data.heldout_images,
        heldout_labels=data.heldout_labels,
        train_examples=len(data.train_labels),
    )


def _download(folder: Path, dataset: Path) -> None:
    # Ours first: it makes the import of torchvision work beside a torch of another build.
    importlib.import_module("modelpress.engine.architectures.torchvision")
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(folder, train=chosen, download=True) for chosen in (True, False))
    # What torchvision raises when there is no network differs from version to version.
    except (OSError, RuntimeError) as error:
        raise ModelPressError(
            f"CIFAR-10 cannot be downloaded ({error}); set MODELPRESS_DATA to a folder that has it, or run the demo "
            "on the digits, which need no download"
        ) from error
    np.savez(
        dataset,
        images=train.data,
        labels=np.asarray(train.targets, dtype=np.int64),
        test_images=test.data,
        test_labels=np.asarray(test.targets, dtype=np.int64),
        classes=np.array(train.classes),
    )
