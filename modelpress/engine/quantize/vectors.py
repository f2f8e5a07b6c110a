"""What a quantized network stores besides levels: steps of channels, biases and norms, made few and short.

A channel of a convolution under a batch norm has five fp32 numbers: its step, and the norm's weight, bias, mean and
variance. Folded, it has two, its step and a bias; in bf16 (8 bits of precision) these take about 11 bits each in the
compact container, where fp32 takes 27.
"""

from __future__ import annotations

import torch

from modelpress.engine.factorize.fold import fold, foldable_norms
from modelpress.engine.network import Network
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.held import is_uniform
from modelpress.engine.quantize.uniform import SMALLEST_SCALE
from modelpress.spec.network import FoldedNorm
from modelpress.spec.report import SkippedLayer

ON_CODEBOOK = "the convolution before it has a codebook, which is one for all its channels, so it is not folded"


@torch.no_grad()
def fold_norms(network: Network) -> tuple[SkippedLayer, ...]:
    """Fold batch norms into the convolutions before them, in place, and give those that stay, with the reason.

    Levels stay what they are, or change their sign; a channel's step takes its norm's scale. The network is the same
    in evaluation mode, to rounding.
    """
    pairs, left = foldable_norms(network.module)
    for norm, convolution in pairs.items():
        if not fold_norm(network, norm, convolution):
            left[norm] = ON_CODEBOOK
    return tuple(SkippedLayer(name=name, reason=reason) for name, reason in left.items())


@torch.no_grad()
def fold_norm(network: Network, norm: str, convolution: str) -> bool:
    """Fold one norm into its convolution, as `fold_norms` does; False, and nothing done, for one on a codebook."""
    name = f"{convolution}.weight"
    grid = network.grids.get(name)
    if grid is not None and not is_uniform(grid):
        return False
    before = network.module.get_parameter(name).clone()
    edit = FoldedNorm(layer=norm, into=convolution)
    scale = fold(network.module, edit)
    network.description = network.description.edited(edit)
    if grid is None:
        return True
    steps = (grid.scales * scale.abs()).float()
    # Nothing of a channel comes through a norm of weight zero: all its weights are zero, and any step will do.
    usable = steps >= SMALLEST_SCALE
    signs = torch.where(usable, scale.sign(), torch.zeros_like(scale)).long()
    network.grids[name] = folded = Grid(grid.levels, torch.where(usable, steps, torch.ones_like(steps)))
    most = len(grid.levels) // 2
    turned = (grid.indices(before) - most) * signs.view(-1, *[1] * (before.ndim - 1))
    network.module.get_parameter(name).copy_(folded.values(turned + most))
    return True


@torch.no_grad()
def round_vectors(network: Network) -> None:
    """Round biases, norms and steps of channels to bf16, in place; weights stay on their levels."""
    for tensor in network.module.state_dict().values():
        if tensor.ndim <= 1 and tensor.dtype == torch.float32:
            tensor.copy_(tensor.bfloat16())
    for name, grid in network.grids.items():
        if is_uniform(grid):
            weight = network.module.get_parameter(name)
            indices = grid.indices(weight)
            # Rounded to nearest, a step stays above zero.
            network.grids[name] = rounded = Grid(grid.levels, grid.scales.bfloat16().float())
            weight.copy_(rounded.values(indices))
