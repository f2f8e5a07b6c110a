from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.factorize.calibration import input_moments, layer_inputs
from modelpress.engine.factorize.svd import decompose
from modelpress.engine.factorize.whitening import whitened_decomposition


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_error_of_the_outputs_is_the_closed_form_and_below_plain_svd(rank: int):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(200, 8)) @ draw.normal(size=(8, 8)) * np.geomspace(3, 0.1, 8)
    matrix = draw.normal(size=(8, 6))
    moment = torch.from_numpy(inputs.T @ inputs / 200)
    found = whitened_decomposition(torch.from_numpy(matrix)[None], moment[None])

    def error(halves: tuple[torch.Tensor, torch.Tensor]) -> float:
        return float(((inputs @ (matrix - (halves[0] @ halves[1])[0].numpy())) ** 2).sum())

    # No matrix of that rank is closer to the outputs than their own truncated SVD, and this one is as close.
    values = np.linalg.svd(inputs @ matrix, compute_uv=False)
    assert error(found.halves(rank)) == pytest.approx((values[rank:] ** 2).sum(), rel=1e-6)
    assert float((found.values[0, rank:] ** 2).sum()) * 200 == pytest.approx((values[rank:] ** 2).sum(), rel=1e-6)
    assert error(found.halves(rank)) < error(decompose(torch.from_numpy(matrix)[None]).halves(rank))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("padding", [(1, 2), "same"])
def test_patches_times_the_kernel_are_the_convolution(mode: str, padding: tuple[int, int] | str):
    torch.manual_seed(0)
    stride = 1 if padding == "same" else (2, 1)
    layer = nn.Conv2d(3, 5, 3, stride=stride, padding=padding, dilation=(1, 2), padding_mode=mode, bias=False)
    images = torch.randn(2, 3, 9, 8)
    rows = layer_inputs(layer, images)
    outputs = rows @ layer.weight.detach().flatten(1).T
    torch.testing.assert_close(outputs, layer(images).detach().permute(0, 2, 3, 1).flatten(0, 2), rtol=1e-4, atol=1e-5)


def test_moments_over_batches_are_those_of_all_images():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 4)).eval()
    images = torch.randn(10, 2, 6, 6)
    found = dict(input_moments(module, {"0": module[0], "3": module[3]}, [images[:4], images[4:]]))
    hidden = torch.relu(module[0](images)).detach().flatten(1)
    torch.testing.assert_close(found["3"][0], hidden.T @ hidden / 10)
    patches = layer_inputs(module[0], images)
    torch.testing.assert_close(found["0"][0], patches.T @ patches / len(patches))
    assert not module[0]._forward_pre_hooks


def test_moments_of_groups_are_those_of_their_channels():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1)).eval()
    images = torch.randn(3, 4, 6, 6)
    found = dict(input_moments(module, {"0": module[0]}, [images]))["0"]
    assert found.shape == (2, 18, 18)
    for group in range(2):
        alone = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        rows = layer_inputs(alone, images[:, 2 * group : 2 * group + 2])
        torch.testing.assert_close(found[group], rows.T @ rows / len(rows))


@pytest.mark.parametrize("padding", [2, "same"])
def test_patches_of_a_row_of_places(padding: int | str):
    torch.manual_seed(0)
    layer = nn.Conv1d(3, 5, 3, stride=1, padding=padding, dilation=2, bias=False)
    signals = torch.randn(2, 3, 9)
    outputs = layer_inputs(layer, signals) @ layer.weight.detach().flatten(1).T
    torch.testing.assert_close(outputs, layer(signals).detach().transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_given_zeros_only():
    matrix = torch.randn(2, 4, 3)
    found = whitened_decomposition(matrix, torch.stack([torch.zeros(4, 4), torch.eye(4)]))
    torch.testing.assert_close(found.values, decompose(matrix).values)
