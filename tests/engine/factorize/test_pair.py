from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.factorize.chain import fill
from modelpress.engine.factorize.pair import PairSplit, insert_pair
from modelpress.engine.factorize.rank import full_rank, groups_of, untreated_reason
from modelpress.engine.factorize.split import whole_reason
from modelpress.spec.check.split import scheme_of
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.steps import ConvolutionScheme


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def split(layer: nn.Module, convolutions: ConvolutionScheme = "vertical_horizontal") -> PairSplit:
    return PairSplit(scheme_of(layer.get_parameter("weight").shape, convolutions), layer)  # type: ignore[arg-type]


def with_pair(
    layer: nn.Module, rank: int, convolutions: ConvolutionScheme = "vertical_horizontal", *, batch_norm: bool = False
) -> nn.Module:
    module = nn.Sequential(layer)
    insert_pair(module, split(layer, convolutions).edit("0", (rank,), batch_norm=batch_norm))
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


PADDINGS = st.one_of(st.integers(0, 2), st.sampled_from(["same", "valid"]))
MODES = st.sampled_from(["zeros", "reflect", "replicate", "circular"])


@settings(max_examples=120, deadline=None)
@given(
    axes=st.integers(1, 2),
    groups=st.integers(1, 3),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 4),
    padding=PADDINGS,
    mode=MODES,
    bias=st.booleans(),
    batch_norm=st.booleans(),
    scheme=st.sampled_from(["vertical_horizontal", "channel_svd"]),
    data=st.data(),
)
def test_a_pair_of_full_rank_is_the_convolution(
    axes: int,
    groups: int,
    channels: int,
    outputs: int,
    padding: int | str,
    mode: str,
    bias: bool,
    batch_norm: bool,
    scheme: ConvolutionScheme,
    data: st.DataObject,
):
    def sizes(most: int) -> tuple[int, ...]:
        return data.draw(st.tuples(*[st.integers(1, most)] * axes))

    kernel, stride, dilation = sizes(4), sizes(3), sizes(2)
    # torch warns that it has to copy there.
    assume(padding != "same" or all(size % 2 == 1 for size in kernel))
    torch.manual_seed(0)
    kind = nn.Conv2d if axes == 2 else nn.Conv1d
    layer = kind(
        groups * channels,
        groups * outputs,
        kernel,  # type: ignore[arg-type]  # as many sizes as axes
        stride=1 if padding == "same" else stride,  # type: ignore[arg-type]
        padding=padding,
        dilation=dilation,  # type: ignore[arg-type]
        groups=groups,
        padding_mode=mode,
        bias=bias,
    ).double()
    full = full_rank(layer, scheme)
    height, *width = kernel
    if scheme == "channel_svd" or axes == 1 or kernel == (1, 1):
        assert full == min(channels * height * (width or [1])[0], outputs)
    else:
        assert full == min(channels * height, outputs * width[0])
    pair = with_pair(layer, full, scheme, batch_norm=batch_norm).eval()
    fill(pair.get_submodule("0"), layer, split(layer, scheme).weights((full,)))
    assert ("0.norm0.weight" in pair.state_dict()) == batch_norm
    images = torch.randn(2, groups * channels, *(11, 10)[:axes], dtype=torch.float64)
    torch.testing.assert_close(pair(images), layer(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(9, 13),
        nn.Linear(1, 5),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(3, 16, 5),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(1, 1, 1),
        nn.Conv2d(8, 12, 3, groups=4),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 12, 5, groups=6),
        nn.Conv1d(8, 12, 5, groups=2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("scheme", ["vertical_horizontal", "channel_svd"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_what_is_smaller_against_counting(layer: nn.Module, scheme: ConvolutionScheme, batch_norm: bool):
    for rank in range(1, full_rank(layer, scheme) + 1):
        made = parameters(with_pair(layer, rank, scheme, batch_norm=batch_norm))
        reason = whole_reason(split(layer, scheme), layer, (rank,), batch_norm=batch_norm)
        assert (reason is None) == (made < parameters(layer))
        if reason is not None and "up to rank" in reason:
            most = int(reason.split("up to rank ")[1].split()[0])
            assert parameters(with_pair(layer, most, scheme, batch_norm=batch_norm)) < parameters(layer)
            assert parameters(with_pair(layer, most + 1, scheme, batch_norm=batch_norm)) >= parameters(layer)


def test_a_depthwise_pair_is_depthwise():
    vertical, horizontal = with_pair(nn.Conv2d(6, 6, 3, groups=6), 1)[0]  # type: ignore[index]  # a Sequential
    assert (groups_of(vertical), groups_of(horizontal)) == (6, 6)
    assert (tuple(vertical.weight.shape), tuple(horizontal.weight.shape)) == ((6, 1, 3, 1), (6, 1, 1, 3))


@pytest.mark.parametrize("rank", [1, 2])
def test_the_error_of_a_grouped_pair_is_what_its_groups_leave_out(rank: int):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, (2, 3), groups=2, bias=False).double()
    pair = with_pair(layer, rank)
    fill(pair[0], layer, split(layer).weights((rank,)))  # type: ignore[index]
    vertical, horizontal = (pair.get_parameter(f"0.{half}.weight").detach().numpy() for half in (0, 1))
    left_out = 0.0
    for group in range(2):
        kernel = layer.weight.detach().numpy()[2 * group : 2 * group + 2]  # (2, 3, 2, 3)
        made = np.einsum(
            "kcy,nkx->ncyx",
            vertical[rank * group : rank * (group + 1), :, :, 0],
            horizontal[2 * group : 2 * group + 2, :, 0, :],
        )
        values = np.linalg.svd(kernel.transpose(1, 2, 0, 3).reshape(6, 6), compute_uv=False)
        assert ((kernel - made) ** 2).sum() == pytest.approx((values[rank:] ** 2).sum())
        left_out += (values[rank:] ** 2).sum()
    assert float(split(layer).spectrum[rank:].square().sum()) == pytest.approx(left_out)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ConvTranspose2d(4, 4, 3), "type ConvTranspose2d"),
        (nn.Conv3d(4, 4, 3), "type Conv3d"),
        (nn.BatchNorm2d(4), "type BatchNorm2d"),
        (nn.MultiheadAttention(4, 2).out_proj, "type NonDynamicallyQuantizableLinear"),
    ],
    ids=repr,
)
def test_what_is_not_treated_has_a_reason(layer: nn.Module, reason: str):
    assert reason in (untreated_reason(layer) or "")
    with pytest.raises(InvalidModel, match=reason):
        insert_pair(nn.Sequential(layer), FactorizedLayer(layer="0", scheme="svd", rank=1))


def test_files_from_before_there_was_a_norm():
    edit = FactorizedLayer.model_validate({"layer": "0", "scheme": "svd", "rank": 2})
    assert not edit.batch_norm
