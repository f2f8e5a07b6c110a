"""The table of layers against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.engine.factorize.step import factorize
from modelpress.engine.layer_figures import layer_figures
from modelpress.engine.measure import count_macs
from modelpress.engine.network import Network
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.step import StepContext
from modelpress.spec.steps import Factorize, PruneChannels
from tests.support.contexts import context
from tests.support.networks import describe, network


def test_figures_of_each_layer() -> None:
    # conv 3-6 5x5 -> 28 x 28, pool, conv 6-16 5x5 -> 10 x 10, pool, linear 400-1000, linear 1000-10
    small = network(describe("snn_1k"))
    with torch.no_grad():
        small.module.get_parameter("features.0.weight")[:3] = 0
    macs, layers = layer_figures(small.module, small.description)
    assert [layer.name for layer in layers] == ["features.0", "features.3", "classifier.0", "classifier.2"]
    assert [layer.type for layer in layers] == ["Conv2d", "Conv2d", "Linear", "Linear"]
    assert [layer.weight_shape for layer in layers] == [(6, 3, 5, 5), (16, 6, 5, 5), (1000, 400), (10, 1000)]
    assert [layer.parameters for layer in layers] == [450 + 6, 2400 + 16, 400_000 + 1000, 10_000 + 10]
    assert [layer.macs for layer in layers] == [450 * 28 * 28, 2400 * 10 * 10, 400_000, 10_000]
    assert sum(layer.macs for layer in layers) == macs == count_macs(small.module, (3, 32, 32))
    assert [layer.sparsity for layer in layers] == [0.5, 0.0, 0.0, 0.0]
    assert [layer.rank for layer in layers] == [None] * 4
    assert all(0 < layer.time_share <= 1 for layer in layers)
    assert sum(layer.time_share for layer in layers) <= 1.1


def test_layers_of_a_factorization_tell_its_rank() -> None:
    small = network(describe("snn_1k"))
    step = Factorize.model_validate({"rank": {"kind": "number", "value": 4}})
    context = StepContext(original=small, data=None, seed=0, device=torch.device("cpu"))
    result = factorize(small, step, context).network
    _, layers = layer_figures(result.module, result.description)
    ranks = {layer.name: layer.rank for layer in layers}
    assert ranks["classifier.0.0"] == ranks["classifier.0.1"] == ranks["features.3.0"] == 4
    # A matrix that a pair of rank 4 does not make smaller stays.
    assert [name for name, rank in ranks.items() if rank is None] == [
        change.name for change in factorize(small, step, context).skipped
    ]


def test_a_rank_is_less_where_channels_between_the_halves_were_removed() -> None:
    original = network(describe("vgg11_bn_cifar", width=0.25))
    middle = {"exclude": ["features.0", "classifier.*"]}
    step = Factorize.model_validate({"rank": {"kind": "number", "value": 16}, "layers": middle})
    factorized = factorize(original, step, context(original)).network
    halved = PruneChannels.model_validate({"target": {"kind": "channels", "removed": 0.5}})
    result = prune_channels(factorized, halved, context(original)).network
    _, layers = layer_figures(result.module, result.description)
    halves = [layer for layer in layers if layer.rank is not None and layer.name.endswith(".0")]
    assert halves
    assert all(layer.rank == layer.weight_shape[0] for layer in halves)
    assert any(layer.rank < 16 for layer in halves if layer.rank is not None)


def test_two_names_of_one_layer_share_its_calls() -> None:
    shared = nn.Linear(8, 8, bias=False)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.unused = shared, nn.Linear(8, 2), nn.Linear(8, 8)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(self.first(images.flatten(1))))

    description = describe("snn_1k").model_copy(update={"input_shape": (2, 2, 2)})
    module = Network(Twice().eval(), description).module
    macs, layers = layer_figures(module, description)
    assert {layer.name: layer.macs for layer in layers} == {"first": 2 * 64, "second": 16, "unused": 0}
    assert macs == 2 * 64 + 16
    assert next(layer.time_share for layer in layers if layer.name == "unused") == 0


def test_an_attention_projection_is_a_linear_layer() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0].mean(1)

    description = describe("snn_1k").model_copy(update={"input_shape": (16, 2, 2)})
    _, (projection,) = layer_figures(Attending().eval(), description)
    assert (projection.name, projection.type) == ("attention.out_proj", "Linear")
    assert projection.macs == 0  # its weight is read by the attention, not called
    assert projection.time_share == pytest.approx(0)
