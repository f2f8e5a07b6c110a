from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.factorize.chain import fill
from modelpress.engine.factorize.cp import cp, cp_weights, insert_cp
from modelpress.engine.factorize.rank import full_rank
from modelpress.engine.factorize.tucker import insert_tucker, mode_values, tucker, tucker_weights
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import CpLayer, TuckerLayer

KERNELS = {
    "kernel": st.tuples(st.integers(1, 3), st.integers(2, 4)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.just("same"), st.just("valid")),
    "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "mode": st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    "bias": st.booleans(),
}


def convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    mode: str,
    bias: bool,
) -> nn.Conv2d:
    # torch warns that it has to copy there.
    assume(padding != "same" or kernel[0] % 2 == kernel[1] % 2 == 1)
    torch.manual_seed(0)
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        padding_mode=mode,
        bias=bias,
    ).double()


def planted(shape: tuple[int, int, int, int], rank: int, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    factors = [draw.normal(size=(size, rank)) for size in shape]
    return torch.from_numpy(np.einsum("nr,cr,yr,xr->ncyx", *factors))


@settings(max_examples=25, deadline=None)
@given(inputs=st.integers(1, 4), outputs=st.integers(1, 5), **KERNELS)
def test_tucker_of_full_rank_is_the_convolution(inputs, outputs, **options):
    layer = convolution(inputs, outputs, **options)
    module = nn.Sequential(layer)
    insert_tucker(module, TuckerLayer(layer="0", input_rank=inputs, output_rank=outputs))
    fill(module[0], layer, tucker(layer.weight, inputs, outputs).weights())
    images = torch.randn(2, inputs, 11, 10, dtype=torch.float64)
    torch.testing.assert_close(module(images), layer(images))
    made = sum(parameter.numel() for name, parameter in module.named_parameters() if name.endswith("weight"))
    assert made == tucker_weights(layer.weight.shape, inputs, outputs)


@settings(max_examples=15, deadline=None)
@given(inputs=st.integers(2, 4), outputs=st.integers(2, 5), **KERNELS)
def test_cp_of_a_planted_component_is_the_convolution(inputs, outputs, **options):
    layer = convolution(inputs, outputs, **options)
    with torch.no_grad():
        layer.weight.copy_(planted(tuple(layer.weight.shape), 1))
    module = nn.Sequential(layer)
    insert_cp(module, CpLayer(layer="0", rank=1))
    fill(module[0], layer, cp(layer.weight, 1, seed=0).weights())
    images = torch.randn(2, inputs, 11, 10, dtype=torch.float64)
    torch.testing.assert_close(module(images), layer(images), rtol=1e-5, atol=1e-5)
    made = sum(parameter.numel() for name, parameter in module.named_parameters() if name.endswith("weight"))
    assert made == cp_weights(layer.weight.shape, 1)


@pytest.mark.parametrize("seed", range(4))
def test_cp_finds_planted_components_from_any_seed(seed: int):
    kernel = planted((12, 8, 3, 3), 3)
    found = cp(kernel, 3, seed)
    assert found.relative_error < 1e-4
    assert float((found.kernel() - kernel).norm() / kernel.norm()) == pytest.approx(found.relative_error, abs=1e-9)


def test_cp_is_balanced_deterministic_and_survives_zeros():
    kernel = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    one, two = cp(kernel, 4, seed=1), cp(kernel, 4, seed=1)
    assert all(torch.equal(left, right) for left, right in zip(one.factors, two.factors, strict=True))
    for factor in one.factors[1:]:
        torch.testing.assert_close(factor.norm(dim=0), one.factors[0].norm(dim=0))
    assert cp(kernel, 20, seed=1).relative_error < one.relative_error < 1
    empty = cp(torch.zeros(3, 3, 3, 3), 2, seed=0)
    assert empty.relative_error == 0
    assert not empty.kernel().any()


def hosvd_error(kernel: np.ndarray, input_rank: int, output_rank: int) -> float:
    """Squared error of the truncated higher-order SVD, projected axis by axis with numpy's SVD."""
    projected = kernel
    for axis, rank in ((0, output_rank), (1, input_rank)):
        unfolded = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        left = np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank]
        projected = np.moveaxis(np.tensordot(left @ left.T, projected, axes=(1, axis)), 0, axis)
    return float(((kernel - projected) ** 2).sum())


@settings(max_examples=20, deadline=None)
@given(outputs=st.integers(2, 8), inputs=st.integers(2, 8), seed=st.integers(0, 9), data=st.data())
def test_tucker_against_an_independent_hosvd(outputs, inputs, seed, data):
    kernel = np.random.default_rng(seed).normal(size=(outputs, inputs, 3, 2))
    input_rank, output_rank = data.draw(st.integers(1, inputs)), data.draw(st.integers(1, outputs))
    found = tucker(torch.from_numpy(kernel), input_rank, output_rank)
    error = float(((found.kernel().numpy() - kernel) ** 2).sum())
    start = hosvd_error(kernel, input_rank, output_rank)
    assert error <= start + 1e-9
    # No approximation of these ranks is better than either unfolding's own truncated SVD.
    values = [
        np.linalg.svd(np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1), compute_uv=False) for axis in (1, 0)
    ]
    least = max((values[0][input_rank:] ** 2).sum(), (values[1][output_rank:] ** 2).sum())
    assert error >= least - 1e-9
    for ours, theirs in zip(mode_values(torch.from_numpy(kernel)), values, strict=True):
        np.testing.assert_allclose(ours.numpy()[: len(theirs)], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "edit", "message"),
    [
        (nn.Conv2d(4, 6, 3), TuckerLayer(layer="0", input_rank=5, output_rank=6), "input rank 5 .* 4 input channels"),
        (nn.Conv2d(4, 6, 3), TuckerLayer(layer="0", input_rank=4, output_rank=10**12), "above its 6 output channels"),
        (nn.Conv2d(4, 6, 3), TuckerLayer(layer="1", input_rank=1, output_rank=1), "has no layer '1'"),
        (nn.Conv2d(4, 6, 1), TuckerLayer(layer="0", input_rank=1, output_rank=1), "larger than 1 x 1"),
        (nn.Linear(4, 6), TuckerLayer(layer="0", input_rank=1, output_rank=1), "larger than 1 x 1"),
        (nn.Conv2d(4, 6, 3), CpLayer(layer="0", rank=37), "rank 37 .* above its full rank 36"),
        (nn.Conv2d(4, 6, 3), CpLayer(layer="", rank=1), "it is the whole network"),
        (nn.Conv2d(4, 6, 3, groups=2), CpLayer(layer="0", rank=1), "2 groups"),
    ],
)
def test_edits_that_do_not_fit(layer: nn.Module, edit: TuckerLayer | CpLayer, message: str):
    with pytest.raises(InvalidModel, match=message):
        (insert_tucker if isinstance(edit, TuckerLayer) else insert_cp)(nn.Sequential(layer), edit)  # type: ignore[operator]


def test_a_cp_of_its_full_rank_can_be_any_kernel():
    # One component for each place of the three small axes, the fibre along the largest as its vector.
    layer = nn.Conv2d(2, 9, (1, 3))
    assert full_rank(layer, "cp") == 6
    assert cp(layer.weight, 6, seed=0).relative_error < 0.02
