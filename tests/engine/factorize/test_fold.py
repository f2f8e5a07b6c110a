from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.factorize.fold import fold, foldable_norms, insert_fold
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FoldedNorm
from tests.support.exported import export
from tests.support.networks import describe, network


def drawn(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A norm that is no identity."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_folded_norm_is_the_same_function(bias: bool, affine: bool, groups: int):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=bias, groups=groups), drawn(nn.BatchNorm2d(6, affine=affine))
    ).eval()
    images = torch.randn(2, 4, 5, 5)
    before = module(images)
    assert foldable_norms(module) == ({"1": "0"}, {})
    fold(module, FoldedNorm(layer="1", into="0"))
    assert isinstance(module[1], nn.Identity)
    torch.testing.assert_close(module(images), before, rtol=1e-5, atol=1e-5)


def test_a_whole_network_is_the_same_function():
    module = network(describe("resnet20_cifar")).module
    pairs, left = foldable_norms(module)
    assert left == {}
    images = torch.randn(2, 3, 32, 32)
    folded = copy.deepcopy(module)
    for name, into in pairs.items():
        fold(folded, FoldedNorm(layer=name, into=into))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    torch.testing.assert_close(folded(images), module(images), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """Convolutions whose output goes two ways, that are called twice, whose weight is read, and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.two_ways, self.twice, self.read, self.plain = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(5)])

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.two_ways(images)
        hidden = self.norms[0](hidden) + hidden
        hidden = self.norms[1](self.twice(hidden)) + self.twice(hidden)
        hidden = self.norms[2](self.read(hidden)) * self.read.weight.sum()
        hidden = self.norms[3](torch.relu(hidden))
        return self.norms[4](self.plain(hidden))


def test_only_what_the_dataflow_proves_is_folded():
    pairs, left = foldable_norms(Branches())
    assert pairs == {"norms.4": "plain"}
    assert list(left) == ["norms.0", "norms.1", "norms.2", "norms.3"]
    assert all("nothing else uses" in reason for reason in left.values())


def exported(module: nn.Module, folder: Path, *size: int) -> nn.Module:
    """The same as a network that was read from a file."""
    path = export(module.eval(), folder / "model.pt2", torch.randn(2, *size))
    return lifted_network(pt2.read(path))


def test_graphs_are_folded_by_their_own_dataflow(tmp_path: Path):
    pairs, left = foldable_norms(exported(Branches(), tmp_path, 3, 8, 8))
    assert pairs == {"norms.4": "plain"}
    assert list(left) == ["norms.0", "norms.1", "norms.2", "norms.3"]
    assert all("nothing else uses" in reason for reason in left.values())


def test_a_whole_graph_is_the_same_function(tmp_path: Path):
    module = exported(network(describe("resnet20_cifar")).module, tmp_path, 3, 32, 32)
    pairs, left = foldable_norms(module)
    assert len(pairs) == 19
    assert left == {}
    images = torch.randn(2, 3, 32, 32)
    folded = copy.deepcopy(module)
    for name, into in pairs.items():
        fold(folded, FoldedNorm(layer=name, into=into))
    torch.testing.assert_close(folded(images), module(images), rtol=1e-4, atol=1e-5)


def test_norms_within_and_behind_a_pair_of_layers_are_folded(tmp_path: Path):
    """As a graph calls the layer that a step has put the pair into the place of."""
    module = exported(nn.Sequential(nn.Conv2d(3, 6, 3), drawn(nn.BatchNorm2d(6))), tmp_path, 3, 8, 8)
    pair = nn.Sequential(nn.Conv2d(3, 2, (3, 1)), drawn(nn.BatchNorm2d(2)), nn.Conv2d(2, 6, (1, 3)))
    module.set_submodule("0", pair.eval())
    images = torch.randn(2, 3, 8, 8)
    before = module(images)
    pairs, left = foldable_norms(module)
    assert (pairs, left) == ({"0.1": "0.0", "1": "0.2"}, {})
    for name, into in pairs.items():
        fold(module, FoldedNorm(layer=name, into=into))
    torch.testing.assert_close(module(images), before, rtol=1e-5, atol=1e-5)


def test_zeros_stay_zeros_to_the_last_bit():
    module = nn.Sequential(nn.Conv2d(2, 4, 3), drawn(nn.BatchNorm2d(4))).eval()
    with torch.no_grad():
        module.get_parameter("0.weight").zero_()
        module.get_parameter("1.weight").copy_(torch.tensor([1.0, -1.0, 2.0, -2.0]))
    fold(module, FoldedNorm(layer="1", into="0"))
    assert not torch.signbit(module.get_parameter("0.weight")).any()


class Dynamic(nn.Module):
    """Its path depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(images) if images.sum() > 0 else images


def test_what_cannot_be_traced_is_left_and_named():
    pairs, left = foldable_norms(Dynamic())
    assert pairs == {}
    assert "cannot be traced" in left["norm"]


@pytest.mark.parametrize(
    ("layer", "into", "message"),
    [
        ("1", "2", "has no layers"),
        ("", "0", "whole network"),
        ("0", "1", "only a BatchNorm2d"),
        ("3", "0", "has 7 channels, the convolution 6"),
        ("4", "0", "no running statistics"),
    ],
)
def test_edits_that_do_not_fit(layer: str, into: str, message: str):
    module = nn.Sequential()
    module.add_module("0", nn.Conv2d(4, 6, 3))
    module.add_module("1", nn.BatchNorm2d(6))
    module.add_module("3", nn.BatchNorm2d(7))
    module.add_module("4", nn.BatchNorm2d(6, track_running_stats=False))
    with pytest.raises(InvalidModel, match=message):
        insert_fold(module, FoldedNorm(layer=layer, into=into))
