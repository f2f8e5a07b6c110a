from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.factorize.calibration import calibration_batches
from modelpress.engine.factorize.step import factorize
from modelpress.engine.measure import count_layer_macs
from modelpress.engine.network import EDITS, Network, rebuild
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import FactorizedLayer, NetworkDescription
from modelpress.spec.steps import (
    AnyRank,
    ConvolutionScheme,
    Factorize,
    LayerSelection,
    Prune,
    Quantize,
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


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("scheme", ["vertical_horizontal", "channel_svd"])
def test_a_budget_of_macs_is_met_within_a_rank(share: float, scheme: ConvolutionScheme):
    original = tiny_network()
    names = ("0", "3", "7")
    result = run(original, RankBudget(macs=share), layers=LayerSelection(include=names), scheme=scheme)

    def macs(module: nn.Module) -> int:
        return sum(
            count_layer_macs(module, {name: module.get_submodule(name) for name in names}, (1, 8, 8))[1].values()
        )

    # A rank of layer 3 by halves: 24 inputs at 4 x 8 places and 48 outputs at 4 x 4; by channels 88 at 4 x 4.
    assert share * macs(original.module) - 1536 < macs(result.network.module) <= share * macs(original.module)
    # Not what a budget of weights would choose: layer 7 has most of those, and few products.
    by_weights = run(original, RankBudget(parameters=share), layers=LayerSelection(include=names), scheme=scheme)
    assert macs(by_weights.network.module) != macs(result.network.module)


def test_a_budget_of_bytes_counts_quantized_weights_as_they_are_stored():
    original = tiny_network()
    only = LayerSelection(include=("7",))
    quantized = quantize(original, Quantize(bits=2, layers=only), context(original)).network
    step = Factorize(rank=RankBudget(bytes=0.95), layers=LayerSelection(include=("3", "7", "9")))
    result = factorize(quantized, step, context(original))
    # At under two bits for each of 256 x 32 weights, no pair of fp32 with 288 by rank is smaller but that of few ranks.
    rank = next((change.rank for change in result.layers if change.name == "7"), None)
    assert rank is None or 4 * 288 * rank < 8192 * 2 / 8
    plain = factorize(original, step, context(original))
    assert next(change.rank or 0 for change in plain.layers if change.name == "7") > 10


def test_a_layer_that_no_pair_is_cheaper_than():
    original = tiny_network()
    quantized = quantize(original, Quantize(bits=2), context(original)).network
    step = Factorize(rank=RankBudget(bytes=0.99), layers=LayerSelection(include=("7", "3")))
    with torch.no_grad():
        quantized.module.get_parameter("7.weight")[:, 4:] = 0  # About a tenth of its entropy is left.
    result = factorize(quantized, step, context(original))
    assert {skip.name: skip.reason for skip in result.skipped}[
        "7"
    ] == "no pair has fewer weights and fewer bytes than the layer"


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


def grouped_network() -> Network:
    """A grouped, a depthwise and a one-dimensional convolution on the way to a linear layer."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.Conv2d(8, 16, 3, padding=1, stride=2, groups=2),
        nn.Conv2d(16, 16, 5, padding=2, groups=16),
        nn.Flatten(2),
        nn.Conv1d(16, 24, 5, padding=2),
        nn.Flatten(),
        nn.Linear(24 * 16, 3),
    )
    return Network(module.eval(), tiny_network().description)


@pytest.mark.parametrize(
    ("scheme", "ranks"),
    [
        # Full ranks of 12 in each group, of 5 in each channel, and of 24.
        ("vertical_horizontal", {"1": 3, "2": 1, "4": 6}),
        # Full ranks of 8 in each group, and of 1 in each channel: a pair of that one is not smaller.
        ("channel_svd", {"1": 2, "4": 6}),
    ],
)
@pytest.mark.parametrize("whiten", [False, True])
def test_grouped_depthwise_and_one_dimensional_layers(scheme: ConvolutionScheme, ranks: dict[str, int], whiten: bool):
    original = grouped_network()
    layers = LayerSelection(include=("1", "2", "4"))
    if whiten and scheme == "vertical_horizontal":
        layers, ranks = LayerSelection(include=("4",)), {"4": 6}
    step = Factorize(rank=RankRatio(value=0.25), scheme=scheme, layers=layers, whiten=whiten)
    result = factorize(original, step, context(original, noise()))
    assert {change.name: change.rank for change in result.layers} == ranks
    assert all(change.parameters_after < change.parameters_before for change in result.layers)
    skipped = {skip.name: skip.reason for skip in result.skipped}
    assert skipped == ({"2": "no thinner layers are smaller"} if scheme == "channel_svd" else {})
    images = torch.randn(2, 1, 8, 8)
    assert result.network.module(images).shape == (2, 3)
    again = copy.deepcopy(original.module)
    for edit in result.network.description.edits:
        EDITS[edit.kind](again, edit)
    again.eval().load_state_dict(result.network.module.state_dict())
    assert torch.equal(again(images), result.network.module(images))


@pytest.mark.parametrize("scheme", ["tucker2", "cp"])
def test_what_a_scheme_cannot_split_is_named(scheme: ConvolutionScheme):
    result = run(grouped_network(), RankRatio(value=0.1), scheme=scheme)
    reasons = {skip.name: skip.reason for skip in result.skipped}
    assert reasons["1"] == f"it is a convolution in 2 groups; the scheme {scheme} splits ungrouped ones only"
    assert "in 16 groups" in reasons["2"]
    assert reasons["4"] == f"it is a Conv1d; the scheme {scheme} splits Conv2d layers only"


def test_whitened_groups_lose_less_of_their_outputs():
    original, data = grouped_network(), noise()
    options = {"scheme": "channel_svd", "layers": LayerSelection(include=("1",))}
    (images,) = calibration_batches(original, context(original, data), 256)
    given = original.module[0](images)
    errors = []
    for whiten in (False, True):
        step = Factorize(rank=RankNumber(value=2), whiten=whiten, **options)  # type: ignore[arg-type]
        made = factorize(original, step, context(original, data)).network.module[1]
        errors.append(float((made(given) - original.module[1](given)).detach().double().square().sum()))
    # Each group's outputs, cut to rank 2, are the best that rank 2 can be.
    wanted = original.module[1](given) - original.module[1].bias[:, None, None]
    left_out = 0.0
    for group in wanted.detach().double().unflatten(1, (2, 8)).movedim((1, 2), (0, 1)).flatten(2).numpy():
        left_out += (np.linalg.svd(group, compute_uv=False)[2:] ** 2).sum()
    assert errors[1] == pytest.approx(left_out, rel=1e-2)
    assert errors[1] < errors[0]


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
