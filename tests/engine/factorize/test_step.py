from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.factorize.step import factorize
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune.step import prune
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import FactorizedLayer, NetworkDescription
from modelpress.spec.steps import (
    AnyRank,
    Factorize,
    LayerSelection,
    Prune,
    RankBudget,
    RankEnergy,
    RankNumber,
    RankPerLayer,
    RankRatio,
)
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network


def run(original: Network, rank: AnyRank, **options: object):
    return factorize(original, Factorize(rank=rank, **options), context(original))  # type: ignore[arg-type]


def kernel_of(pair: nn.Module) -> np.ndarray:
    """The kernel that a vertical and a horizontal convolution make together, by the sum of equation 3."""
    vertical, horizontal = (pair.get_parameter(f"{half}.weight").detach().double().numpy() for half in (0, 1))
    return np.einsum("kcy,nkx->ncyx", vertical[:, :, :, 0], horizontal[:, :, 0, :])


@pytest.mark.parametrize("rank", [1, 5, 11])
def test_the_error_is_what_the_singular_values_left_out_say(rank: int):
    original = tiny_network()
    result = run(original, RankPerLayer(values={"3": rank, "7": rank}))
    kernel = original.module.get_parameter("3.weight").detach().double().numpy()  # (16, 8, 3, 3)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(24, 48)
    values = np.linalg.svd(matrix, compute_uv=False)
    error = ((kernel - kernel_of(result.network.module[3])) ** 2).sum()
    assert error == pytest.approx((values[rank:] ** 2).sum(), rel=1e-4)

    weight = original.module.get_parameter("7.weight").detach().double().numpy()
    pair = result.network.module[7]
    product = pair[1].weight.detach().double().numpy() @ pair[0].weight.detach().double().numpy()
    values = np.linalg.svd(weight, compute_uv=False)
    assert ((weight - product) ** 2).sum() == pytest.approx((values[rank:] ** 2).sum(), rel=1e-4)
    # Shared by square roots: both halves have the same norm.
    assert pair[0].weight.norm().item() == pytest.approx(pair[1].weight.norm().item(), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_the_error_of_a_channel_pair_is_what_the_singular_values_left_out_say(rank: int):
    original = tiny_network()
    result = run(original, RankPerLayer(values={"3": rank}), scheme="channel_svd")
    kernel = original.module.get_parameter("3.weight").detach().double().numpy()  # (16, 8, 3, 3)
    values = np.linalg.svd(kernel.reshape(16, 72), compute_uv=False)
    pair = result.network.module[3]
    first, second = (pair[half].weight.detach().double().numpy() for half in (0, 1))
    error = ((kernel - np.einsum("nk,kcyx->ncyx", second[:, :, 0, 0], first)) ** 2).sum()
    assert error == pytest.approx((values[rank:] ** 2).sum(), rel=1e-4)
    assert (pair[0].stride, pair[0].padding, pair[1].kernel_size) == ((2, 2), (1, 1), (1, 1))


def test_channel_pairs_are_described_and_can_be_built_again():
    original = network(describe("vgg11_bn_cifar", width=0.0625, in_channels=1))
    result = run(original, RankBudget(parameters=0.4), scheme="channel_svd")
    schemes = {edit.layer: edit.scheme for edit in result.network.description.edits}
    assert "channel_svd" in schemes.values()
    description = NetworkDescription.model_validate_json(result.network.description.model_dump_json())
    again = rebuild(description).eval()
    again.load_state_dict(result.network.module.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), result.network.module(images))


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_budget_is_met_within_a_rank(share: float):
    original = tiny_network()
    chosen = LayerSelection(include=("0", "3", "7"))
    result = run(original, RankBudget(parameters=share), layers=chosen)
    layers = {name: original.module.get_submodule(name) for name in ("0", "3", "7")}
    total = sum(weights(layer) for layer in layers.values())
    kept = sum(weights(result.network.module.get_submodule(name)) for name in layers)
    # A rank of the largest layer, 256 x 32, costs 288 weights.
    assert share * total - 288 < kept <= share * total
    whole = set(layers) - {change.name for change in result.layers}
    assert {skip.name for skip in result.skipped} == whole
    assert {skip.reason for skip in result.skipped} <= {"the budget keeps it whole"}
    assert all(change.parameters_after < change.parameters_before for change in result.layers)


def test_a_budget_below_rank_one_is_refused():
    with pytest.raises(IncompatibleSpec, match=r"a budget of 0\.01 is below the least that pairs can have"):
        run(tiny_network(), RankBudget(parameters=0.01))


def test_the_result_is_described_counted_and_can_be_built_again():
    original = network(describe("vgg11_bn_cifar", width=0.125, in_channels=1))
    before = copy.deepcopy(original.module.state_dict())
    result = run(original, RankRatio(value=0.25), layers=LayerSelection(exclude=("classifier.6",)))
    assert original.description.edits == ()
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())
    assert result.network.description.edits == tuple(
        FactorizedLayer(
            layer=change.name,
            scheme="svd" if change.name.startswith("classifier") else "vertical_horizontal",
            rank=change.rank or 0,
        )
        for change in result.layers
    )
    assert len(result.layers) > 8
    assert not any(change.name == "classifier.6" for change in result.layers)
    for change in result.layers:
        assert change.parameters_after < change.parameters_before
        pair = result.network.module.get_submodule(change.name)
        assert sum(parameter.numel() for parameter in pair.parameters()) == change.parameters_after
        nonzero = sum(np.count_nonzero(parameter.detach().numpy()) for parameter in pair.parameters())
        assert change.nonzero_after == nonzero
    again = rebuild(result.network.description).eval()
    again.load_state_dict(result.network.module.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), result.network.module(images))


def test_outputs_stay_close_at_nearly_all_energy():
    original = tiny_network()
    images = torch.randn(4, 1, 8, 8)
    # Rank-deficient weights, so that a smaller pair can carry all of them.
    with torch.no_grad():
        weight = original.module.get_parameter("7.weight")
        weight.copy_(torch.randn(32, 3) @ torch.randn(3, 256) / 16)
    result = run(original, RankEnergy(value=0.999999), layers=LayerSelection(include=("7",)))
    assert [(change.name, change.rank) for change in result.layers] == [("7", 3)]
    torch.testing.assert_close(result.network.module(images), original.module(images), rtol=1e-3, atol=1e-3)


def test_layers_that_would_not_shrink_stay_and_are_named():
    original = tiny_network()
    result = run(original, RankNumber(value=3), layers=LayerSelection(include=("0", "7")))
    assert [change.name for change in result.layers] == ["7"]
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("0", "thinner layers of rank 3 would not be smaller; up to rank 2 they are")
    ]
    assert torch.equal(result.network.module[0].weight, original.module[0].weight)


def test_layers_of_other_types_are_named():
    module = nn.Sequential(nn.ConvTranspose2d(1, 8, 3), nn.Flatten(), nn.Linear(800, 10)).eval()
    result = run(Network(module, tiny_network().description), RankRatio(value=0.2))
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("0", "layers of type ConvTranspose2d are not factorized; only Linear, Conv1d and Conv2d are")
    ]
    assert [change.name for change in result.layers] == ["2"]


class ReadsWeights(nn.Module):
    """Uses one layer without calling it, as windowed attention does, and one in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.auxiliary = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.linear(self.called(images.flatten(1)), self.read.weight)
        return hidden + self.auxiliary(hidden) if self.training else hidden


def test_layers_that_are_not_called_stay():
    original = Network(ReadsWeights(), tiny_network().description)
    result = run(original, RankNumber(value=2))
    assert [change.name for change in result.layers] == ["called"]
    assert [skip.name for skip in result.skipped] == ["read", "auxiliary"]
    assert all("without calling it" in skip.reason for skip in result.skipped)
    assert result.network.module(torch.zeros(1, 1, 8, 8)).shape == (1, 32)


def test_a_rank_above_the_full_one_is_refused():
    original = tiny_network()
    with pytest.raises(IncompatibleSpec, match="rank 11 is above the full rank 10 of layer '9'"):
        run(original, RankNumber(value=11), layers=LayerSelection(include=("9",)))
    with pytest.raises(IncompatibleSpec, match="rank 25 is above the full rank 24 of layer '3'"):
        run(original, RankPerLayer(values={"3": 25}))


def test_layers_that_are_not_there():
    original = tiny_network()
    with pytest.raises(IncompatibleSpec, match="no layer matches 'conv"):
        run(original, RankNumber(value=1), layers=LayerSelection(include=("conv*",)))
    with pytest.raises(IncompatibleSpec, match="no layer 8 that can be factorized"):
        run(original, RankPerLayer(values={"8": 1}))


def test_masks_of_replaced_layers_are_dropped_and_others_held():
    original = tiny_network(classes=3)
    pruned = prune(original, Prune(sparsity=0.5), context(original)).network
    step = Factorize(
        rank=RankNumber(value=2),
        layers=LayerSelection(include=("3",)),
        training=Recovery(epochs=1, batch_size=8, teacher="original"),
    )
    result = factorize(pruned, step, context(original, noise()))
    assert set(result.network.masks) == {"0.weight", "7.weight", "9.weight"}
    assert set(pruned.masks) == {"0.weight", "3.weight", "7.weight", "9.weight"}
    for name, mask in result.network.masks.items():
        assert torch.equal(result.network.module.get_parameter(name) != 0, mask)
    assert result.training is not None
    assert result.training.steps == 3


def test_training_without_data():
    original = tiny_network()
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        run(original, RankNumber(value=1), training=Recovery())
