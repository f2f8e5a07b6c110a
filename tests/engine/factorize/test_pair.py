from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.factorize.pair import insert_pair
from modelpress.engine.factorize.rank import full_rank, largest_smaller_rank, scheme_of, untreated_reason
from modelpress.engine.factorize.step import _fill, _matrix
from modelpress.engine.factorize.svd import decompose
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.steps import ConvolutionScheme


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def with_pair(layer: nn.Module, rank: int, convolutions: ConvolutionScheme = "vertical_horizontal") -> nn.Module:
    module = nn.Sequential(layer)
    insert_pair(module, FactorizedLayer(layer="0", scheme=scheme_of(layer, convolutions), rank=rank))
    return module


def test_a_linear_pair():
    pair = with_pair(nn.Linear(7, 5), 3)
    assert {name: tuple(tensor.shape) for name, tensor in pair.state_dict().items()} == {
        "0.0.weight": (3, 7),
        "0.1.weight": (5, 3),
        "0.1.bias": (5,),
    }


def test_a_convolution_pair():
    layer = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)
    pair = with_pair(layer, 3)
    assert {name: tuple(tensor.shape) for name, tensor in pair.state_dict().items()} == {
        "0.0.weight": (3, 4, 3, 1),
        "0.1.weight": (6, 3, 1, 5),
    }


def test_a_channel_pair():
    layer = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    pair = with_pair(layer, 3, "channel_svd")
    assert {name: tuple(tensor.shape) for name, tensor in pair.state_dict().items()} == {
        "0.0.weight": (3, 4, 3, 5),
        "0.1.weight": (6, 3, 1, 1),
        "0.1.bias": (6,),
    }


def test_a_channel_pair_above_its_full_rank():
    with pytest.raises(InvalidModel, match="rank 7 of layer '0' is above its full rank 6"):
        with_pair(nn.Conv2d(4, 6, 3), 7, "channel_svd")
    with pytest.raises(InvalidModel, match="is factorized by 'svd', not by 'channel_svd'"):
        insert_pair(nn.Sequential(nn.Conv2d(4, 6, 1)), FactorizedLayer(layer="0", scheme="channel_svd", rank=2))


def test_a_pointwise_pair_strides_at_once():
    first, second = with_pair(nn.Conv2d(4, 6, 1, stride=2), 3)[0]  # type: ignore[index]  # a Sequential
    assert (first.stride, second.stride) == ((2, 2), (1, 1))


def test_mode_and_type_follow_the_layer():
    pair = with_pair(nn.Linear(4, 4).double().eval(), 2)
    assert all(parameter.dtype == torch.float64 for parameter in pair.parameters())
    assert not pair[0].training  # type: ignore[index]  # a Sequential


def test_a_half_can_be_factorized_again():
    module = nn.Sequential(nn.Linear(8, 8))
    insert_pair(module, FactorizedLayer(layer="0", scheme="svd", rank=6))
    insert_pair(module, FactorizedLayer(layer="0.1", scheme="svd", rank=2))
    assert set(module.state_dict()) == {"0.0.weight", "0.1.0.weight", "0.1.1.weight", "0.1.1.bias"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"layer": "1"}, "has no layer '1'"),
        ({"layer": ""}, "it is the whole network"),
        ({"layer": "0.weight"}, "has no layer"),
        ({"rank": 5}, "rank 5 of layer '0' is above its full rank 4"),
        ({"rank": 10**15}, "above its full rank"),
        ({"scheme": "vertical_horizontal"}, "is factorized by 'svd', not by 'vertical_horizontal'"),
        ({"scheme": "channel_svd"}, "is factorized by 'svd', not by 'channel_svd'"),
    ],
)
def test_edits_that_do_not_fit(edit: dict[str, object], message: str):
    with pytest.raises(InvalidModel, match=message):
        insert_pair(
            nn.Sequential(nn.Linear(4, 9)),
            FactorizedLayer(**{"layer": "0", "scheme": "svd", "rank": 2, **edit}),  # type: ignore[arg-type]
        )


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 4),
    outputs=st.integers(1, 5),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.just("same"), st.just("valid")),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    scheme=st.sampled_from(["vertical_horizontal", "channel_svd"]),
)
def test_a_pair_of_full_rank_is_the_convolution(
    channels: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    mode: str,
    bias: bool,
    scheme: ConvolutionScheme,
):
    # torch warns that it has to copy there.
    assume(padding != "same" or kernel[0] % 2 == kernel[1] % 2 == 1)
    torch.manual_seed(0)
    layer = nn.Conv2d(
        channels,
        outputs,
        kernel,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        padding_mode=mode,
        bias=bias,
    ).double()
    full = full_rank(layer, scheme)
    by_channel = min(channels * kernel[0] * kernel[1], outputs)
    assert full == (by_channel if scheme == "channel_svd" else min(channels * kernel[0], outputs * kernel[1]))
    pair = with_pair(layer, full, scheme)
    split = scheme_of(layer, scheme)
    _fill(pair[0], layer, split, decompose(_matrix(layer, split)))  # type: ignore[index]  # a Sequential
    images = torch.randn(2, channels, 11, 10, dtype=torch.float64)
    torch.testing.assert_close(pair(images), layer(images))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(9, 13),
        nn.Linear(1, 5),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(3, 16, 5),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(1, 1, 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("scheme", ["vertical_horizontal", "channel_svd"])
def test_the_largest_smaller_rank_against_counting(layer: nn.Module, scheme: ConvolutionScheme):
    full = full_rank(layer, scheme)
    assert full is not None
    smaller = [rank for rank in range(1, full + 1) if parameters(with_pair(layer, rank, scheme)) < parameters(layer)]
    assert min(largest_smaller_rank(layer, scheme), full) == max(smaller, default=0)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "2 groups"),
        (nn.Conv2d(4, 4, 3, groups=4), "4 groups"),
        (nn.Conv1d(4, 4, 3), "type Conv1d"),
        (nn.ConvTranspose2d(4, 4, 3), "type ConvTranspose2d"),
        (nn.BatchNorm2d(4), "type BatchNorm2d"),
        (nn.MultiheadAttention(4, 2).out_proj, "type NonDynamicallyQuantizableLinear"),
    ],
    ids=repr,
)
def test_what_is_not_treated_has_a_reason(layer: nn.Module, reason: str):
    assert full_rank(layer) is None
    assert reason in (untreated_reason(layer) or "")
