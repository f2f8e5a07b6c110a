from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelpress.engine.data.augmentation import Changes, crop_and_mirror, erase, mix
from modelpress.spec.training import Augmentation


def drawn(size: tuple[int, int] = (32, 32), count: int = 20_000, **augmentation: float) -> Changes:
    generator = torch.Generator().manual_seed(0)
    return Changes.draw(Augmentation.model_validate(augmentation), count, size, generator)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    padding=st.integers(0, 4),
    seed=st.integers(0, 10**6),
    flip=st.booleans(),
)
def test_crops_and_mirrors_against_one_image_at_a_time(
    channels: int, height: int, width: int, padding: int, seed: int, flip: bool
):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (5, height, width, channels), dtype=np.uint8)
    shifts = draw.integers(0, 2 * padding + 1, (2, 5))
    mirrored = draw.random(5) < 0.5
    changes = Changes(
        shifts=torch.from_numpy(shifts) if padding else None, mirrored=torch.from_numpy(mirrored) if flip else None
    )
    result = crop_and_mirror(torch.from_numpy(images), changes, padding)
    for index, image in enumerate(images):
        y, x = shifts[:, index]
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        expected = padded[y : y + height, x : x + width]
        if flip and mirrored[index]:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(result[index].numpy(), expected)


def test_nothing_is_drawn_without_augmentation():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Changes.draw(Augmentation(), 5, (4, 4), generator) == Changes()
    assert torch.equal(generator.get_state(), before)


def test_squares_lie_around_centres_anywhere_in_the_image():
    (squares,) = drawn((4, 6), cutout=3).rectangles
    assert set(squares[0].tolist()) == {-1, 0, 1, 2}
    assert set(squares[1].tolist()) == {-1, 0, 1, 2, 3, 4}
    assert set(squares[2:].flatten().tolist()) == {3}


def test_rectangles_have_the_areas_and_the_shapes_of_the_paper():
    """On a large image rounding does not count, and of its square shape little has to be cut."""
    (rectangles,) = drawn((1000, 1000), random_erasing=1.0).rectangles
    top, left, height, width = rectangles.double().numpy()
    assert min(top.min(), left.min(), (1000 - top - height).min(), (1000 - left - width).min()) >= 0
    whole = (height < 1000) & (width < 1000)
    assert whole.mean() > 0.95
    ratio = height / width
    assert 0.29 < ratio.min() < 0.31
    assert 3.2 < ratio.max() < 3.4
    assert (ratio > 1).mean() == pytest.approx(0.5, abs=0.01)
    share = height * width / 1e6
    assert 0.019 < share.min() < 0.021
    assert share.max() < 0.401
    assert stats.kstest(share[share < 0.25], stats.uniform(0.02, 0.23).cdf).pvalue > 0.01
    # Where it can lie, it lies evenly.
    assert stats.kstest(top[whole] / (1001 - height[whole]), "uniform").pvalue > 0.01


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_rectangles_stay_within_images_of_any_shape(height: int, width: int):
    (rectangles,) = drawn((height, width), count=100, random_erasing=1.0).rectangles
    top, left, tall, wide = rectangles
    assert bool((top >= 0).all())
    assert bool((left >= 0).all())
    assert bool((tall >= 1).all())
    assert bool((wide >= 1).all())
    assert bool((top + tall <= height).all())
    assert bool((left + wide <= width).all())


def test_erasing_by_hand():
    """A square of 2 around the middle, one of which a corner alone lies inside, a flat rectangle, and none."""
    images = torch.ones(4, 2, 3, 3)
    tops, lefts, heights, widths = [0, -1, 2, 1], [0, -1, 0, 1], [2, 2, 1, 0], [2, 2, 3, 3]
    erase(images, torch.tensor([tops, lefts, heights, widths]))
    for channel in range(2):
        assert images[0, channel].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]
        assert images[1, channel].tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
        assert images[2, channel].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
        assert images[3, channel].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_of_mixtures_follow_the_beta_distribution(alpha: float):
    shares = drawn(mixup=alpha).shares
    assert shares is not None
    for share in (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        assert float((shares <= share).double().mean()) == pytest.approx(stats.beta(alpha, alpha).cdf(share), abs=0.012)


def test_mixing_by_hand():
    images = torch.tensor([1.0, 3.0, 11.0])[:, None, None, None].expand(3, 1, 2, 2)
    mixed = mix(images, torch.tensor([1.0, 0.5, 0.25]))
    assert mixed[:, 0, 1, 1].tolist() == [1.0, 2.0, 0.25 * 11 + 0.75 * 3]


def test_changes_of_some_images():
    changes = Changes(
        shifts=torch.arange(6).view(2, 3),
        mirrored=torch.tensor([True, False, False]),
        rectangles=(torch.arange(12).view(4, 3),),
        shares=torch.tensor([0.1, 0.2, 0.3]),
    ).of(torch.tensor([2, 0]))
    assert changes.shifts is not None
    assert changes.shifts.tolist() == [[2, 0], [5, 3]]
    assert changes.mirrored is not None
    assert changes.mirrored.tolist() == [False, True]
    assert changes.rectangles[0].tolist() == [[2, 0], [5, 3], [8, 6], [11, 9]]
    assert changes.shares is not None
    assert changes.shares.tolist() == pytest.approx([0.3, 0.1])
