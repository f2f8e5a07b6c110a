from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.check.images import image_misfits
from modelpress.spec.inspection import DatasetInspection
from modelpress.spec.network import CropCentre, NetworkDescription, Preprocessing, Stretch, read_resize

DATASET = DatasetInspection(
    format="zip",
    classes=("a", "b"),
    train_examples=100,
    heldout_examples=None,
    image_shape=(3, 32, 32),
    statistics=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
)


def _messages(resize: CropCentre | Stretch | None = None, channels: int = 3, **dataset: Any) -> list[str]:
    network = NetworkDescription.model_validate(
        {
            "architecture": {"architecture": "snn_1k"},
            "input_shape": (channels, 32, 32),
            "preprocessing": Preprocessing(mean=(0.5,) * channels, std=(0.2,) * channels, resize=resize),
        }
    )
    return [misfit.message for misfit in image_misfits(network, DATASET.model_copy(update=dataset))]


MIXED = {"smallest_size": (20, 32), "largest_size": (40, 32)}


def test_images_that_fit() -> None:
    assert _messages() == []
    assert _messages(channels=1) == []
    assert _messages(image_shape=(1, 32, 32)) == []
    for resize in (CropCentre(shorter_side=32), Stretch()):
        assert _messages(resize, image_shape=(1, 500, 30)) == []
        assert _messages(resize, **MIXED) == []


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ({"image_shape": (3, 28, 32)}, "its images are 3 x 28 x 32, the model takes 3 x 32 x 32"),
        (MIXED, "differ in size, from 20 x 32 to 40 x 32, the model takes 32 x 32"),
        ({"image_shape": (4, 32, 32)}, "its images have 4 channels, the model takes 3; only grey"),
    ],
)
def test_images_that_do_not(dataset: dict[str, Any], says: str) -> None:
    (message,) = _messages(**dataset)
    assert says in message


def test_channels_are_not_a_matter_of_size() -> None:
    (message,) = _messages(Stretch(), image_shape=(2, 32, 32))
    assert "its images have 2 channels" in message


@pytest.mark.parametrize("text", ["0", "4097", "-1", "1.5", "crop", "", "²", "00032x", "99999"])
def test_what_is_no_way_to_resize(text: str) -> None:
    with pytest.raises(ValueError, match=r"`stretch`, or the pixels of the shorter side"):
        read_resize(text)


def test_ways_to_resize() -> None:
    assert read_resize("256", "bicubic") == CropCentre(shorter_side=256, interpolation="bicubic")
    assert read_resize("stretch") == Stretch()
