"""The structure of a convolution that became three thinner ones (Tucker-2) or four (CP), without its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.engine.factorize.rank import untreated_reason
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import CpLayer, TuckerLayer


def insert_tucker(module: nn.Module, edit: TuckerLayer) -> None:
    """Replace the convolution `edit.layer` by a 1 x 1, a k x k and a 1 x 1 one, in place, freshly initialised.

    They are named `<layer>.0` to `<layer>.2`; the bias belongs to the last. Raises InvalidModel when the layer is not
    there, is no such convolution, or has fewer channels than the ranks: edits also come from files that others wrote.
    """
    layer = _convolution(module, edit.layer)
    for rank, channels, end in (
        (edit.input_rank, layer.in_channels, "input"),
        (edit.output_rank, layer.out_channels, "output"),
    ):
        if rank > channels:
            raise InvalidModel(f"{end} rank {rank} of layer {edit.layer!r} is above its {channels} {end} channels")
    # Paddings of any mode commute with 1x1 layers, and padded zeros stay zeros, since the first has no bias.
    _insert(
        module,
        edit.layer,
        nn.Conv2d(layer.in_channels, edit.input_rank, 1, bias=False),
        _like(layer, edit.input_rank, edit.output_rank, axes=(0, 1)),
        nn.Conv2d(edit.output_rank, layer.out_channels, 1, bias=layer.bias is not None),
    )


def insert_cp(module: nn.Module, edit: CpLayer) -> None:
    """Replace the convolution `edit.layer` by a 1 x 1, a k x 1 and a 1 x k depthwise and a 1 x 1 one, in place.

    They are named `<layer>.0` to `<layer>.3`; the bias belongs to the last. Raises InvalidModel as `insert_tucker`.
    """
    layer = _convolution(module, edit.layer)
    most = cp_full_rank(layer)
    if edit.rank > most:
        raise InvalidModel(f"rank {edit.rank} of layer {edit.layer!r} is above its full rank {most}")
    _insert(
        module,
        edit.layer,
        nn.Conv2d(layer.in_channels, edit.rank, 1, bias=False),
        _like(layer, edit.rank, edit.rank, axes=(0,), groups=edit.rank),
        _like(layer, edit.rank, edit.rank, axes=(1,), groups=edit.rank),
        nn.Conv2d(edit.rank, layer.out_channels, 1, bias=layer.bias is not None),
    )


INSERT: dict[str, Callable[[nn.Module, Any], None]] = {"tucker_layer": insert_tucker, "cp_layer": insert_cp}


def cp_full_rank(layer: nn.Conv2d) -> int:
    """A rank at which CP can be any kernel: the product of its sizes without the largest (a bound, rarely needed)."""
    shape = layer.weight.shape
    return math.prod(shape) // max(shape)


def tucker_weights(shape: Sequence[int], input_rank: int, output_rank: int) -> int:
    """Weights of the three convolutions in place of a kernel of this shape (N, C, kh, kw)."""
    outputs, inputs, height, width = shape
    return inputs * input_rank + input_rank * output_rank * height * width + output_rank * outputs


def cp_weights(shape: Sequence[int], rank: int) -> int:
    """Weights of the four convolutions in place of a kernel of this shape."""
    return rank * sum(shape)


@torch.no_grad()
def fill_chain(chain: nn.Module, layer: nn.Conv2d, weights: Sequence[Tensor]) -> None:
    """Give the convolutions of a chain these kernels, and the last the layer's bias."""
    for index, weight in enumerate(weights):
        chain.get_parameter(f"{index}.weight").copy_(weight)
    if layer.bias is not None:
        chain.get_parameter(f"{len(weights) - 1}.bias").copy_(layer.bias)


def _convolution(module: nn.Module, name: str) -> nn.Conv2d:
    try:
        layer = module.get_submodule(name)
    except AttributeError as error:
        raise InvalidModel(f"the network has no layer {name!r} to factorize") from error
    reason = "it is the whole network" if layer is module else untreated_reason(layer)
    if reason is None and (not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1)):
        reason = "it is no convolution with a kernel larger than 1 x 1"
    if reason is not None or not isinstance(layer, nn.Conv2d):
        raise InvalidModel(f"layer {name!r} cannot be factorized: {reason}")
    return layer


def _like(layer: nn.Conv2d, inputs: int, outputs: int, *, axes: tuple[int, ...], groups: int = 1) -> nn.Conv2d:
    """A convolution with the layer's kernel size, stride, padding and dilation along these axes, without a bias."""

    def along(sizes: tuple[int, ...], otherwise: int) -> tuple[int, int]:
        height, width = (sizes[axis] if axis in axes else otherwise for axis in (0, 1))
        return height, width

    return nn.Conv2d(
        inputs,
        outputs,
        along(layer.kernel_size, 1),
        stride=along(layer.stride, 1),
        padding=layer.padding if isinstance(layer.padding, str) else along(layer.padding, 0),
        dilation=along(layer.dilation, 1),
        groups=groups,
        bias=False,
        padding_mode=layer.padding_mode,
    )


def _insert(module: nn.Module, name: str, *layers: nn.Conv2d) -> None:
    before = module.get_submodule(name)
    weight = before.get_parameter("weight")
    module.set_submodule(name, nn.Sequential(*layers).to(weight.device, weight.dtype).train(before.training))
