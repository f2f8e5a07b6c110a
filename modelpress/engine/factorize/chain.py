"""Thinner layers in a row that take the place of one, without its weights: what all schemes have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelpress.engine.factorize.rank import untreated_reason
from modelpress.spec.failure import InvalidModel

Convolution = nn.Conv1d | nn.Conv2d
NORMS: dict[type[nn.Module], type[nn.BatchNorm1d] | type[nn.BatchNorm2d]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
}


def find_layer(module: nn.Module, name: str) -> nn.Linear | Convolution:
    """The layer of this name. Raises InvalidModel when it is not there, or when no scheme can replace it."""
    try:
        layer = module.get_submodule(name)
    except AttributeError as error:
        raise InvalidModel(f"the network has no layer {name!r} to factorize") from error
    reason = "it is the whole network" if layer is module else untreated_reason(layer)
    if reason is not None or not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        raise InvalidModel(f"layer {name!r} cannot be factorized: {reason}")
    return layer


def find_kernel(module: nn.Module, name: str) -> nn.Conv2d:
    """The ungrouped k x k convolution of this name. Raises InvalidModel for anything else."""
    layer = find_layer(module, name)
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1):
        raise InvalidModel(f"layer {name!r} cannot be factorized so: it is no Conv2d with a kernel larger than 1 x 1")
    if layer.groups != 1:
        raise InvalidModel(f"layer {name!r} cannot be factorized so: it is a convolution in {layer.groups} groups")
    return layer


def along(
    layer: Convolution, inputs: int, outputs: int, *axes: int, groups: int = 1, bias: bool = False
) -> Convolution:
    """A convolution with the layer's kernel size, stride, padding and dilation along these axes; 1 wide along others.

    Such a convolution without a bias commutes with what the layer does along the other axes: padding of any mode adds
    whole rows or columns, and padded zeros stay zeros.
    """

    def sizes(of: tuple[int, ...], otherwise: int) -> tuple[int, ...]:
        return tuple(size if axis in axes else otherwise for axis, size in enumerate(of))

    padding: str | tuple[int, ...] = "valid"
    if axes:
        padding = layer.padding if isinstance(layer.padding, str) else sizes(layer.padding, 0)
    kind: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    return kind(
        inputs,
        outputs,
        sizes(layer.kernel_size, 1),  # type: ignore[arg-type]  # as many as the layer's kind has axes
        stride=sizes(layer.stride, 1),  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        dilation=sizes(layer.dilation, 1),  # type: ignore[arg-type]
        groups=groups,
        bias=bias,
        padding_mode=layer.padding_mode if axes else "zeros",
    )


def insert(module: nn.Module, name: str, layers: Sequence[nn.Module], *, batch_norm: bool) -> None:
    """Replace a layer by others in a row, in place. They are named `<layer>.0`, `<layer>.1` and so on.

    With `batch_norm` there is a norm behind each convolution but the last, named `<layer>.norm0` and so on. It changes
    nothing in evaluation mode.
    """
    before = module.get_submodule(name)
    weight = before.get_parameter("weight")
    row = nn.Sequential()
    for index, layer in enumerate(layers):
        row.add_module(str(index), layer)
        if batch_norm and index < len(layers) - 1 and isinstance(layer, nn.Conv1d | nn.Conv2d):
            row.add_module(f"norm{index}", _neutral_norm(layer))
    module.set_submodule(name, row.to(weight.device, weight.dtype).train(before.training))


@torch.no_grad()
def fill(row: nn.Module, layer: nn.Module, weights: Sequence[Tensor]) -> None:
    """Give the layers of a row these weights, and the last the bias of the layer whose place they take."""
    for index, weight in enumerate(weights):
        row.get_parameter(f"{index}.weight").copy_(weight)
    if layer.bias is not None:
        row.get_parameter(f"{len(weights) - 1}.bias").copy_(layer.get_parameter("bias"))


def _neutral_norm(layer: Convolution) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """A norm that gives what it is given, in evaluation mode: its variance makes up for the epsilon added to it."""
    norm = NORMS[type(layer)](layer.out_channels)
    norm.get_buffer("running_var").fill_(1 - norm.eps)
    return norm
