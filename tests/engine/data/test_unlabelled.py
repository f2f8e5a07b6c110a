"""Images without a label: read, split, inspected, and trained on by what a teacher says alone."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from modelpress.engine.data.dataset import read_dataset
from modelpress.engine.data.folders import Entry, Layout, arrange
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.distill.decoupled import DecoupledLoss
from modelpress.engine.distill.hinton import HintonLoss, LabelLoss, softened_divergence
from modelpress.engine.distill.logits import LogitLoss
from modelpress.engine.loading import label_by
from modelpress.engine.recovery import recover
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.training import Recovery
from tests.support.archives import write_zip
from tests.support.contexts import context
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_module, tiny_network

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
LABELS = np.array([0, -1, 1, -1, 0, 1, 0, -1, 1, -1, -1, -1])


def save(path: Path, labels: np.ndarray = LABELS) -> Path:
    np.savez(path / "data.npz", images=IMAGES, labels=labels)
    return path / "data.npz"


def test_an_npz_with_labels_of_minus_one(tmp_path: Path):
    found = inspect_dataset(save(tmp_path))
    assert (found.train_examples, found.unlabelled_examples, found.classes) == (12, 6, ("0", "1"))
    data = read_dataset(tmp_path / "data.npz", seed=0)
    assert data.unlabelled == 6
    assert sorted(data.heldout_labels.tolist()) == [0, 1]
    assert len(data.train_labels) == 10
    assert len(data.labelled().train_labels) == len(data.labelled().train_images) == 4
    assert bool((data.labelled().train_labels >= 0).all())


def test_labels_below_minus_one_and_no_labels_at_all(tmp_path: Path):
    with pytest.raises(InvalidDataset, match=r"`labels`\[1\] is -2, out of range: .*-1 for none"):
        inspect_dataset(save(tmp_path, np.where(LABELS == -1, -2, LABELS)))


def save_without(path: Path, form: str) -> Path:
    """The images without any label: as an npy, as an npz, or as files."""
    file = path / f"data.{form}"
    if form == "npy":
        np.save(file, IMAGES[..., None])
    elif form == "npz":
        np.savez(file, images=IMAGES, labels=np.full(12, -1))
    else:
        write_zip(file, {f"photos/{index:02}.png": encoded(image) for index, image in enumerate(IMAGES)})
    return file


def encoded(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("form", ["npy", "npz", "zip"])
def test_sets_without_any_label(tmp_path: Path, form: str):
    path = save_without(tmp_path, form)
    found = inspect_dataset(path)
    assert (found.format, found.classes, found.heldout_examples) == (form, (), None)
    assert (found.train_examples, found.unlabelled_examples, found.image_shape) == (12, 12, (1, 4, 4))
    data = read_dataset(path, seed=0, heldout_share=0.25)
    assert (len(data.train_images), len(data.heldout_images)) == (9, 3)
    together = torch.cat([data.train_images, data.heldout_images])[:, 0].numpy()
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in IMAGES)
    assert torch.equal(read_dataset(path, seed=0, heldout_share=0.25).heldout_images, data.heldout_images)


def test_a_single_image_without_label(tmp_path: Path):
    np.save(tmp_path / "data.npy", IMAGES[:1, :, :, None])
    with pytest.raises(InvalidDataset, match="a single image, so none can be held out"):
        read_dataset(tmp_path / "data.npy", seed=0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES, r"has shape \(12, 4, 4\); images are \(images, height, width, channels\)"),
        (IMAGES[..., None].astype(np.float32), "type float32; save pixels as uint8"),
        (IMAGES.reshape(12, 1, 1, 16), r"has shape \(12, 1, 1, 16\); it must be"),
        (IMAGES[:0, :, :, None], "there are no images"),
        (np.array([None]), "holds Python objects"),
    ],
)
def test_what_is_wrong_with_a_single_array(tmp_path: Path, array: np.ndarray, message: str):
    np.save(tmp_path / "data.npy", array)
    with pytest.raises(InvalidDataset, match=message):
        inspect_dataset(tmp_path / "data.npy")


def test_a_single_array_that_was_cut_off(tmp_path: Path):
    path = save_without(tmp_path, "npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidDataset, match="the npy is damaged"):
        inspect_dataset(path)


def test_the_original_labels_what_is_held_out():
    whole = noise(12, heldout=8)
    data = replace(whole, train_labels=torch.full((12,), -1), heldout_labels=torch.full((8,), -1), classes=())
    original = tiny_network(data.statistics, classes=3)
    labelled = label_by(original, data, torch.device("cpu"))
    expected = original.module(normalised(data.heldout_images, data.statistics)).argmax(1)
    assert labelled.heldout_labels.tolist() == expected.tolist()
    assert labelled.classes == ("0", "1", "2")
    assert labelled.unlabelled == 12


def layout(*names: str, folders: tuple[str, ...] = ()) -> Layout:
    return arrange([*(Entry(name, 0, folder=True) for name in folders), *(Entry(name, 1) for name in names)])


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.png", "dog/2.png", "unlabelled/3.png"),
        ("data/cat/1.png", "data/dog/2.png", "data/Unlabelled/3.png"),
        ("train/cat/1.png", "train/dog/2.png", "unlabelled/3.png", "test/cat/4.png", "test/dog/5.png"),
        ("train/cat/1.png", "train/dog/2.png", "train/unlabelled/3.png", "test/cat/4.png", "test/dog/5.png"),
    ],
)
def test_a_folder_of_unlabelled_images(names: tuple[str, ...]):
    found = layout(*names)
    assert found.classes == ("cat", "dog")
    assert [(image.place, image.heldout) for image in found.images if image.label == -1] == [(2, False)]
    assert sorted(image.place for image in found.images) == list(range(len(names)))


def test_what_is_wrong_in_such_a_folder():
    with pytest.raises(InvalidDataset, match=r"unlabelled/notes.txt is no image of a known type"):
        layout("cat/1.png", "dog/2.png", "unlabelled/notes.txt", "unlabelled/3.png")


OUTPUTS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [3.0, 1.0, 1.0]])


def test_the_labels_count_where_there_are_some():
    some, none = torch.tensor([0, -1, 2]), torch.tensor([-1, -1, -1])
    # Of rows 0 and 2: -log softmax = log(1 + e^-1 + e^-2) and log(e^2 + 2).
    expected = (np.log(1 + np.exp(-1) + np.exp(-2)) + np.log(np.exp(2) + 2)) / 2
    assert float(LabelLoss()(OUTPUTS, some, torch.zeros(0))) == pytest.approx(expected, rel=1e-6)
    assert float(LabelLoss(0.1)(OUTPUTS, none, torch.zeros(0))) == 0.0


def test_the_teacher_counts_everywhere():
    teacher = tiny_module(classes=3).eval()
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        taught = teacher(images)
    none = torch.tensor([-1, -1, -1])
    hinton = HintonLoss(teacher, temperature=2.0, alpha=0.7)(OUTPUTS, none, images)
    torch.testing.assert_close(hinton, 0.7 * softened_divergence(OUTPUTS, taught, 2.0))
    torch.testing.assert_close(LogitLoss(teacher, label_weight=1.0)(OUTPUTS, none, images), F.mse_loss(OUTPUTS, taught))
    decoupled = DecoupledLoss(teacher, temperature=2.0, alpha=1.0, beta=8.0, label_weight=0.0)
    torch.testing.assert_close(decoupled(OUTPUTS, none, images), decoupled(OUTPUTS, taught.argmax(1), images))


def test_without_a_teacher_the_labelled_images_are_trained_on_and_with_one_all():
    whole = noise(24)
    labels = torch.where(torch.arange(24) < 16, -1, whole.train_labels)
    data = replace(whole, train_labels=labels)
    original = tiny_network(classes=3)
    for teacher, steps in ((None, 2), ("original", 6)):
        training = Recovery(epochs=1, batch_size=4, teacher=teacher)
        assert recover(tiny_network(classes=3), training, context(original, data)).steps == steps
