"""Networks from their descriptions, and the layers that steps treat."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from modelpress.engine.network import EDITS, WEIGHTED, Network, layer_types, rebuild, weighted_layers
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import Edit, FactorizedLayer
from modelpress.spec.steps.selection import LayerType
from tests.support.networks import describe


def test_every_kind_of_edit_can_be_applied() -> None:
    kinds = {edit.model_fields["kind"].default for edit in get_args(Edit) or (Edit,)}
    assert set(EDITS) == kinds


def test_weighted_layers_come_by_name_in_order() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4, 2, 2)))
    module.append(nn.Linear(5, 6))
    assert list(weighted_layers(module)) == ["0", "2.1", "3"]
    assert weighted_layers(module)["2.1"] is module[2][1]


def test_subclasses_count_as_weighted() -> None:
    layers = weighted_layers(nn.MultiheadAttention(4, 2))
    assert type(layers["out_proj"]) is not nn.Linear
    assert layer_types(layers) == {"out_proj": "Linear"}


def test_the_types_that_can_be_asked_for_are_those_of_weighted_layers() -> None:
    assert get_args(LayerType) == tuple(kind.__name__ for kind in WEIGHTED)
    assert layer_types({"a": nn.ConvTranspose2d(1, 1, 1), "b": nn.ReLU()}) == {"a": "ConvTranspose2d", "b": "ReLU"}


def test_a_network_has_no_masks_unless_given() -> None:
    one, two = (Network(nn.Identity(), describe("nin_cifar")) for _ in range(2))
    one.masks["a"] = torch.ones(1, dtype=torch.bool)
    assert two.masks == {}


def test_edits_are_applied_in_order() -> None:
    description = describe(
        "vgg11_cifar",
        FactorizedLayer(layer="features.3", scheme="vertical_horizontal", rank=7),
        FactorizedLayer(layer="classifier.4", scheme="svd", rank=3),
        # The second half of the first pair, a 1 x 3 convolution of 7 channels, once more.
        FactorizedLayer(layer="features.3.1", scheme="vertical_horizontal", rank=2),
    )
    module = rebuild(description)
    assert module.training
    shapes = {name: tuple(layer.weight.shape) for name, layer in weighted_layers(module).items()}
    assert shapes["features.3.0"] == (7, 64, 3, 1)
    assert shapes["features.3.1.0"] == (2, 7, 1, 1)
    assert shapes["features.3.1.1"] == (128, 2, 1, 3)
    assert shapes["classifier.4.0"] == (3, 512)
    assert shapes["classifier.4.1"] == (512, 3)
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    "edit",
    [
        FactorizedLayer(layer="nowhere", scheme="svd", rank=1),
        FactorizedLayer(layer="", scheme="svd", rank=1),
        FactorizedLayer(layer="features.1", scheme="svd", rank=1),
        FactorizedLayer(layer="classifier.1", scheme="vertical_horizontal", rank=1),
        FactorizedLayer(layer="classifier.1", scheme="channel_svd", rank=1),
        FactorizedLayer(layer="features.0", scheme="channel_svd", rank=28),
        FactorizedLayer(layer="classifier.1", scheme="svd", rank=10**9),
    ],
    ids=lambda edit: f"{edit.layer or 'whole'}-{edit.rank}",
)
def test_edits_that_do_not_fit_are_refused(edit: FactorizedLayer) -> None:
    with pytest.raises(InvalidModel):
        rebuild(describe("vgg11_cifar", edit))


def test_halves_of_halves_without_end_are_refused() -> None:
    edits = (
        FactorizedLayer(layer="classifier.1" + ".1" * depth, scheme="svd", rank=1 if depth else 512)
        for depth in range(1_000)
    )
    with pytest.raises(InvalidModel, match="nest more than 64"):
        rebuild(describe("vgg11_cifar", *edits))
