"""The two data sets: no test image and no image to train on is among those that choices are made by."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.slimnets.images import draw, write_datasets
from benchmarks.slimnets.scale import SCALES
from demo.cifar10 import SPLITS

SCALE = replace(SCALES["tiny"], train_images=40, tuning_images=10, test_images=6)


def names(path: Path, split: str) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {archive.read(name).decode() for name in archive.namelist() if name.startswith(f"{split}/")}


def test_tuning_holds_training_images_out_and_final_the_test_images(tmp_path: Path) -> None:
    for split, file in SPLITS.items():
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            for label in ("cat", "dog"):
                archive.writestr(f"{label}/", "")
                for number in range(30):
                    archive.writestr(f"{label}/{number:04}.jpg", f"{split} {label} {number}")
    paths = write_datasets(tmp_path, tmp_path / "made", SCALE)
    final, tuning = paths["final"], paths["tuning"]
    assert (len(names(final, "train")), len(names(final, "test"))) == (40, 6)
    assert (len(names(tuning, "train")), len(names(tuning, "test"))) == (30, 10)
    assert names(tuning, "train") | names(tuning, "test") == names(final, "train")
    assert not names(tuning, "train") & names(tuning, "test")
    assert all(content.startswith("test ") for content in names(final, "test"))
    assert sum(content.startswith("train cat") for content in names(tuning, "test")) == 5
    # What is there stays, so that a stopped run goes on with the same bytes.
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert write_datasets(tmp_path, tmp_path / "made", SCALE) == paths
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before


def test_the_draw_is_even_and_the_same_each_time() -> None:
    there = [f"{label}/{number}" for label in "abc" for number in range(9)]
    chosen = draw(there, 8)
    assert [sum(name.startswith(label) for name in chosen) for label in "abc"] == [3, 3, 2]
    assert draw(list(reversed(there)), 8) == chosen
    assert draw([*there, "a/"], None) == sorted(there)
    with pytest.raises(ValueError, match="larger than population"):
        draw(there, 60)
