"""Small real files to upload, and what a worker would find in them."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.inspection import DatasetInspection, LayerInspection, ModelInspection
from modelpress.spec.network import NetworkSummary, Preprocessing

CLASSES = tuple("0123456789")


def safetensors_file(seed: int = 0, floats: int = 1000) -> bytes:
    """One tensor in the safetensors format, written here by hand."""
    data = np.random.default_rng(seed).random(floats, dtype=np.float32).tobytes()
    entry = {"dtype": "F32", "shape": [floats], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"by": "hand"}, "weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


def npz_file(seed: int = 0, images: int = 20) -> bytes:
    """Random images of ten classes."""
    draw = np.random.default_rng(seed)
    file = io.BytesIO()
    np.savez(
        file,
        images=draw.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8),
        labels=np.arange(images, dtype=np.int64) % 10,
    )
    return file.getvalue()


def zip_file(names: tuple[str, ...] = ("cat/1.png", "dog/1.png")) -> bytes:
    """A zip of files that hold their own names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return file.getvalue()


def model_inspection(num_classes: int = 10) -> ModelInspection:
    """What a worker finds in an SNN-1k: two of its layers."""
    return ModelInspection(
        network=NetworkSummary(architecture=ArchitectureRef(architecture="snn_1k"), input_shape=(3, 32, 32)),
        format="safetensors",
        parameters=413_882,
        macs=1_059_200,
        num_classes=num_classes,
        fp32_bytes=1_655_528,
        layers=(
            LayerInspection(
                name="features.0", type="Conv2d", weight_shape=(6, 3, 5, 5), parameters=456, prunable=True, full_rank=15
            ),
            LayerInspection(
                name="classifier.0",
                type="Linear",
                weight_shape=(1000, 400),
                parameters=401_000,
                prunable=True,
                full_rank=400,
            ),
        ),
    )


def dataset_inspection(size: int = 32) -> DatasetInspection:
    """What a worker finds in images of ten classes."""
    return DatasetInspection(
        format="npz",
        classes=CLASSES,
        train_examples=20,
        heldout_examples=None,
        image_shape=(3, size, size),
        statistics=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
