"""The digits, scaled and split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from demo.digits import write_digits
from modelpress.engine.data.dataset import read_dataset


def test_every_digit_is_there_once_and_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits.npz")
    data = read_dataset(tmp_path / "digits.npz", seed=0)
    assert data.classes == tuple("0123456789")
    assert tuple(data.train_images.shape[1:]) == tuple(data.heldout_images.shape[1:]) == (1, 32, 32)
    whole = np.bincount(load_digits().target)
    heldout = np.bincount(data.heldout_labels.numpy())
    assert (np.bincount(data.train_labels.numpy()) + heldout == whole).all()
    assert (np.abs(heldout - whole / 5) <= 1).all()


def test_pictures_stay_what_they_were(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits.npz")
    file = np.load(tmp_path / "digits.npz", allow_pickle=False)
    # The mean of each 4x4 block follows the pixel that it came from; smoothing at edges is all that differs.
    scaled = np.concatenate([file["images"], file["test_images"]]).reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    labels = np.concatenate([file["labels"], file["test_labels"]])
    digits = load_digits()
    for label in range(10):
        ours, theirs = scaled[labels == label].mean(axis=0), digits.images[digits.target == label].mean(axis=0)
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert (file["images"].min(), file["images"].max()) == (0, 255)
