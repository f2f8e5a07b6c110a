"""VGG-19 on CIFAR-10: its files, joined and read."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.cifar10 import SPLITS, join_splits, prepare_given
from modelpress.client import ModelPressError
from modelpress.engine.data.inspect_dataset import inspect_dataset

DATA = os.environ.get("MODELPRESS_DATA")


def _picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), level, dtype=np.uint8)).save(file, "jpeg")
    return file.getvalue()


def test_two_splits_become_one_archive_of_the_same_bytes(tmp_path: Path) -> None:
    pictures = {f"{name}/{number}.jpg": _picture(40 * number) for name in ("cat", "dog") for number in (1, 2, 3)}
    for split in SPLITS:
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            archive.mkdir("cat")
            for name, content in pictures.items():
                archive.writestr(name, content)
    join_splits({split: tmp_path / f"{split}.zip" for split in SPLITS}, tmp_path / "joined.zip")
    with zipfile.ZipFile(tmp_path / "joined.zip") as joined:
        assert {name: joined.read(name) for name in joined.namelist()} == {
            f"{split}/{name}": content for split in SPLITS for name, content in pictures.items()
        }
    found = inspect_dataset(tmp_path / "joined.zip")
    assert (found.classes, found.train_examples, found.heldout_examples) == (("cat", "dog"), 6, 6)


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / SPLITS["test"]).touch()
    with pytest.raises(ModelPressError, match=r"lacks vgg19-cifar10\.safetensors, .*, cifar10-train\.zip$"):
        prepare_given(tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="needs MODELPRESS_DATA")
def test_the_real_files_are_taken(tmp_path: Path) -> None:
    assert DATA is not None
    prepared = prepare_given(Path(DATA), tmp_path)
    assert prepared.train_examples == 50_000
    assert tuple(prepared.heldout_images.shape) == (10_000, 3, 32, 32)
    assert prepared.preprocessing.mean == (0.4914, 0.4822, 0.4465)
