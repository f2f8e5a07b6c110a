"""The demo that needs no download: a small VGG on scikit-learn's handwritten digits, scaled to 32x32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from demo.original import TrainingReport, train_original
from demo.prepared import Prepared
from modelpress.engine.data.dataset import read_dataset
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.training import Augmentation, Training

# A VGG-13 with a quarter of the channels: what two cores train in half a minute.
ARCHITECTURE = ArchitectureRef(
    architecture="vgg13_bn_cifar", arguments={"num_classes": 10, "in_channels": 1, "width": 0.25}
)
# Shifts of up to two pixels; no mirroring, which would make new signs of digits.
TRAINING = Training(
    epochs=10,
    batch_size=32,
    optimizer="adamw",
    learning_rate=0.003,
    schedule="one_cycle",
    precision="fp32",
    augmentation=Augmentation(crop_padding=2),
)
SIZE = 32
HELDOUT_SHARE = 0.2
SEED = 0


def prepare(folder: Path, epochs: int | None, tell: TrainingReport) -> Prepared:
    """Write `digits.npz` with a fixed held-out fifth, train the VGG on the rest, write `model.safetensors`.

    `epochs` is None for the usual number.
    """
    dataset = folder / "digits.npz"
    write_digits(dataset)
    data = read_dataset(dataset, seed=SEED)
    model = folder / "model.safetensors"
    training = TRAINING if epochs is None else TRAINING.model_copy(update={"epochs": epochs})
    train_original(ARCHITECTURE, data, training, seed=SEED, path=model, tell=tell)
    return Prepared(
        title="VGG-13 with a quarter of its channels, on scikit-learn's digits",
        architecture=ARCHITECTURE,
        model=model,
        dataset=dataset,
        preprocessing=data.statistics,
        heldout_images=data.heldout_images,
        heldout_labels=data.heldout_labels,
        train_examples=len(data.train_labels),
    )


def write_digits(path: Path) -> None:
    """The 1,797 digits as uint8 (N, 32, 32), a fifth of each class held out."""
    digits = load_digits()
    images = np.stack([_scaled(image) for image in digits.images])
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=HELDOUT_SHARE, stratify=labels, random_state=SEED)
    np.savez_compressed(
        path,
        images=images[train],
        labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        classes=np.array([str(name) for name in digits.target_names]),
    )


def _scaled(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """8x8 grey levels of 0..16 -> 32x32 of 0..255."""
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
