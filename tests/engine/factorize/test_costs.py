"""What ranks cost, as the spec reckons it, against counting in the layers that are made."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.factorize.pair import insert_pair
from modelpress.engine.factorize.rank import full_rank
from modelpress.engine.factorize.stored import stored_bytes
from modelpress.engine.inspect_layers import inspect_layers
from modelpress.engine.measure import count_layer_macs
from modelpress.engine.quantize.grid import Grid
from modelpress.spec.check.split import rank_cost, scheme_of
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.steps import ConvolutionScheme


class Twice(nn.Module):
    """Calls a layer at two sizes."""

    def __init__(self, layer: nn.Module, linear: bool) -> None:
        super().__init__()
        self.layer, self.linear = layer, linear

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.linear:
            images = images.movedim(1, -1)
            return self.layer(images).sum() + self.layer(images.mean((1, 2))).sum()
        return self.layer(images).sum() + self.layer(images[:, :, 3:]).sum()


def whole_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    groups=st.integers(1, 3),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 3)), st.just("same")),
    bias=st.booleans(),
    batch_norm=st.booleans(),
    scheme=st.sampled_from(["vertical_horizontal", "channel_svd"]),
    data=st.data(),
)
def test_costs_are_what_is_counted(kernel, groups, stride, padding, bias, batch_norm, scheme, data):
    scheme_name: ConvolutionScheme = scheme
    layer: nn.Module
    if kernel is None:
        layer = nn.Linear(6, 12, bias=bias)
    else:
        assume(padding != "same" or kernel[0] % 2 == kernel[1] % 2 == 1)
        strides = 1 if padding == "same" else stride
        layer = nn.Conv2d(6, 12, kernel, stride=strides, padding=padding, groups=groups, bias=bias)
    module = Twice(layer, kernel is None).eval()
    shape = (6, 9, 8)
    (found,) = inspect_layers(module, shape)
    costs = {
        currency: rank_cost(found, scheme_name, currency, batch_norm=batch_norm)  # type: ignore[arg-type]
        for currency in ("parameters", "macs", "bytes")
    }
    assert costs["parameters"].whole == layer.weight.numel()
    assert costs["macs"].whole == count_layer_macs(module, {"": layer}, shape)[1][""]
    assert costs["bytes"].whole == whole_bytes(layer)

    rank = data.draw(st.integers(1, full_rank(layer, scheme_name)))
    edit = FactorizedLayer(
        layer="layer",
        scheme=scheme_of(layer.weight.shape, scheme_name),  # type: ignore[arg-type]
        rank=rank,
        batch_norm=batch_norm,
    )
    insert_pair(module, edit)
    pair = module.eval().layer
    biases = layer.bias.numel() if layer.bias is not None else 0
    assert costs["parameters"].at(rank) == sum(parameter.numel() for parameter in pair.parameters()) - biases
    assert costs["macs"].at(rank) == count_layer_macs(module, {"": pair}, shape)[1][""]
    assert costs["bytes"].at(rank) == whole_bytes(pair)
    for cost in costs.values():
        # The largest rank that is smaller in weights and cheaper in its own currency.
        cheaper = cost.at(rank) < cost.whole and costs["parameters"].at(rank) < layer.weight.numel()
        assert (rank <= cost.most) == cheaper


def test_the_macs_of_a_layer_that_was_inspected_before_calls_were_noted():
    (found,) = inspect_layers(nn.Sequential(nn.Conv2d(1, 8, 3)), (1, 8, 8))
    assert found.calls
    old = type(found).model_validate(found.model_dump(exclude={"calls", "groups"}))
    assert rank_cost(old, "channel_svd", "macs", batch_norm=False) is None
    assert rank_cost(old, "channel_svd", "bytes", batch_norm=False) == rank_cost(
        found, "channel_svd", "bytes", batch_norm=False
    )


@pytest.mark.parametrize("zeros", [0, 300, 750, 1000])
def test_the_bytes_of_a_pruned_weight(zeros: int):
    weight = torch.ones(1000)
    weight[:zeros] = 0
    share = zeros / 1000
    positions = -1000 * sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
    assert stored_bytes(weight, None) == math.ceil(4 * (1000 - zeros) + positions / 8)


def test_the_bytes_of_a_quantized_weight():
    grid = Grid(torch.tensor([-1.0, 0, 1, 2]), torch.tensor([1.0]))
    values = np.repeat([-1.0, 0.0, 1.0, 2.0], [8, 4, 2, 2])
    # Entropy by hand: 8 of 1 bit, 4 of 2, 4 of 3, 28 bits; and 4 levels and a scale of 4 bytes each.
    assert stored_bytes(torch.from_numpy(values).float(), grid) == 4 + 20
