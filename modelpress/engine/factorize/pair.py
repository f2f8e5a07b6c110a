"""The structure of a factorized layer: two thinner layers in a row, without its weights."""

from __future__ import annotations

from torch import nn

from modelpress.engine.factorize.rank import full_rank, matrix_shape, scheme_of, untreated_reason
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.steps import ConvolutionScheme


def insert_pair(module: nn.Module, edit: FactorizedLayer) -> None:
    """Replace the layer named `edit.layer` by an `nn.Sequential` of its two halves, in place, freshly initialised.

    The halves are named `<layer>.0` and `<layer>.1`; the bias belongs to the second. Raises InvalidModel when the
    layer is not there or cannot be such a pair: edits also come from files that others wrote.
    """
    try:
        layer = module.get_submodule(edit.layer)
    except AttributeError as error:
        raise InvalidModel(f"the network has no layer {edit.layer!r} to factorize") from error
    reason = "it is the whole network" if layer is module else untreated_reason(layer)
    if reason is not None:
        raise InvalidModel(f"layer {edit.layer!r} cannot be factorized: {reason}")
    convolutions: ConvolutionScheme = "channel_svd" if edit.scheme == "channel_svd" else "vertical_horizontal"
    if edit.scheme != scheme_of(layer, convolutions):
        raise InvalidModel(f"layer {edit.layer!r} is factorized by {scheme_of(layer)!r}, not by {edit.scheme!r}")
    most = full_rank(layer, convolutions)
    if most is None or edit.rank > most:
        raise InvalidModel(f"rank {edit.rank} of layer {edit.layer!r} is above its full rank {most}")
    if not isinstance(layer, nn.Conv2d):
        pair = _linear_pair(layer, edit.rank)
    elif edit.scheme == "vertical_horizontal":
        pair = _vertical_horizontal_pair(layer, edit.rank)
    else:
        pair = _channel_pair(layer, edit.rank)
    weight = layer.get_parameter("weight")
    module.set_submodule(edit.layer, pair.to(weight.device, weight.dtype).train(layer.training))


def _linear_pair(layer: nn.Module, rank: int) -> nn.Sequential:
    inputs, outputs = matrix_shape(layer) or (0, 0)
    return nn.Sequential(
        nn.Linear(inputs, rank, bias=False),
        nn.Linear(rank, outputs, bias=layer.bias is not None),
    )


def _channel_pair(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    # The first half has the layer's kernel, stride, padding and dilation, so that the second works on the small image
    # already. A 1x1 layer is split this way too.
    return nn.Sequential(
        nn.Conv2d(
            layer.in_channels,
            rank,
            _pair(layer.kernel_size),
            stride=_pair(layer.stride),
            padding=layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
            dilation=_pair(layer.dilation),
            bias=False,
            padding_mode=layer.padding_mode,
        ),
        nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None),
    )


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def _vertical_horizontal_pair(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    height, width = layer.kernel_size
    (stride_y, stride_x), (dilation_y, dilation_x) = layer.stride, layer.dilation
    # Each half strides, pads and dilates along its own axis.
    first_pad: str | tuple[int, int]
    second_pad: str | tuple[int, int]
    if isinstance(layer.padding, str):
        first_pad = second_pad = layer.padding
    else:
        pad_y, pad_x = layer.padding
        first_pad, second_pad = (pad_y, 0), (0, pad_x)
    # Padding of any mode adds whole rows or columns, and the half along the other axis treats each of those by
    # itself, so the two commute; padded zeros stay zeros, since the first half has no bias.
    return nn.Sequential(
        nn.Conv2d(
            layer.in_channels,
            rank,
            (height, 1),
            stride=(stride_y, 1),
            padding=first_pad,
            dilation=(dilation_y, 1),
            bias=False,
            padding_mode=layer.padding_mode,
        ),
        nn.Conv2d(
            rank,
            layer.out_channels,
            (1, width),
            stride=(1, stride_x),
            padding=second_pad,
            dilation=(1, dilation_x),
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        ),
    )
