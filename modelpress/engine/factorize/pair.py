"""Layers as pairs of thinner ones: matrices cut to a rank by SVD, in the forms that layers have as matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor, nn

from modelpress.engine.factorize import channel_svd, vertical_horizontal
from modelpress.engine.factorize.chain import Convolution, find_layer, insert
from modelpress.engine.factorize.rank import choose_rank, full_rank, groups_of, rank_by_values, spectrum
from modelpress.engine.factorize.split import Ranks
from modelpress.engine.factorize.svd import Decomposition, decompose
from modelpress.engine.factorize.whitening import whitened_decomposition
from modelpress.spec.check.split import matrix_shape, pair_parameters, scheme_of
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.steps import AnyRank, ConvolutionScheme

PairScheme = Literal["svd", "vertical_horizontal", "channel_svd"]


@dataclass(frozen=True)
class Form:
    """A layer as matrices, and halves of matrices as layers."""

    matrices: Callable[[nn.Module], Tensor]  # (groups, inputs, outputs)
    kernels: Callable[[Tensor, Tensor, nn.Module], tuple[Tensor, Tensor]]
    layers: Callable[[nn.Linear | Convolution, int], tuple[nn.Module, nn.Module]]


_CHANNELS = Form(channel_svd.matrices, channel_svd.kernels, channel_svd.layers)
FORMS: dict[PairScheme, Form] = {
    "svd": _CHANNELS,
    "channel_svd": _CHANNELS,
    "vertical_horizontal": Form(vertical_horizontal.matrices, vertical_horizontal.kernels, vertical_horizontal.layers),
}


class PairSplit:
    """A layer as a pair, for every rank; the SVD is done once, when its values or vectors are asked for."""

    def __init__(self, scheme: PairScheme, layer: nn.Module) -> None:
        self._scheme, self._layer, self._form = scheme, layer, FORMS[scheme]
        self._sizes = layer.get_parameter("weight").shape, groups_of(layer), scheme

    @cached_property
    def decomposition(self) -> Decomposition:
        """Of each group's matrix."""
        return decompose(self._form.matrices(self._layer))

    @property
    def spectrum(self) -> Tensor:
        """Singular values (R,), over all groups: what is lost at rank r is the sum of squares from r on."""
        return spectrum(self.decomposition.values)

    def whiten(self, moment: Tensor) -> None:
        """Take the layer apart for inputs of these second moments, (groups, inputs, inputs)."""
        self.decomposition = whitened_decomposition(self._form.matrices(self._layer), moment)

    def ranks(self, rank: AnyRank, name: str) -> Ranks:
        shape = matrix_shape(*self._sizes)
        chosen = choose_rank(rank, name, min(shape))
        return (rank_by_values(rank, self.decomposition.values, shape) if chosen is None else chosen,)

    def parameters(self, ranks: Ranks, *, batch_norm: bool) -> int:
        return ranks[0] * pair_parameters(*self._sizes, batch_norm=batch_norm)

    def edit(self, name: str, ranks: Ranks, *, batch_norm: bool) -> FactorizedLayer:
        between = batch_norm and not isinstance(self._layer, nn.Linear)
        return FactorizedLayer(layer=name, scheme=self._scheme, rank=ranks[0], batch_norm=between)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        return self._form.kernels(*self.decomposition.halves(ranks[0]), self._layer)


def insert_pair(module: nn.Module, edit: FactorizedLayer) -> None:
    """Replace the layer named `edit.layer` by an `nn.Sequential` of its two halves, in place, freshly initialised.

    The halves are named `<layer>.0` and `<layer>.1`, a norm between them `<layer>.norm0`; the bias belongs to the
    second. Raises InvalidModel when the layer is not there or cannot be such a pair: edits also come from files that
    others wrote.
    """
    layer = find_layer(module, edit.layer)
    convolutions: ConvolutionScheme = "channel_svd" if edit.scheme == "channel_svd" else "vertical_horizontal"
    scheme = scheme_of(layer.weight.shape, convolutions)
    if edit.scheme != scheme:
        raise InvalidModel(f"layer {edit.layer!r} is factorized by {scheme!r}, not by {edit.scheme!r}")
    most = full_rank(layer, convolutions)
    if edit.rank > most:
        raise InvalidModel(f"rank {edit.rank} of layer {edit.layer!r} is above its full rank {most}")
    insert(module, edit.layer, FORMS[edit.scheme].layers(layer, edit.rank), batch_norm=edit.batch_norm)
