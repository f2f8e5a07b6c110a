"""What each criterion removes, through the step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Cubic, LayerSelection, Prune
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_network

LAYERS = ("0", "3", "7", "9")


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[f"{name}.weight"].flatten() for name in LAYERS])


def gone(network: Network) -> int:
    return int((flat(dict(network.module.named_parameters())) == 0).sum())


TOTAL = 72 + 1152 + 8192 + 96  # weights of the tiny network with three classes


def test_random_looks_at_the_seed_and_not_at_the_weights():
    one, other = tiny_network(classes=3, seed=1), tiny_network(classes=3, seed=2)
    step = Prune(sparsity=0.7, criterion="random")
    first = prune(one, step, context(one, seed=5)).network
    assert torch.equal(flat(first.masks), flat(prune(other, step, context(other, seed=5)).network.masks))
    assert not torch.equal(flat(first.masks), flat(prune(one, step, context(one, seed=6)).network.masks))
    assert gone(first) == round(0.7 * TOTAL)
    # Large and small weights go alike: of 8,192 draws at 0.7, the mean differs by less than five standard deviations.
    weight, mask = one.module.get_parameter("7.weight"), first.masks["7.weight"]
    large = weight.abs() > weight.abs().median()
    assert float((~mask[large]).float().mean()) == pytest.approx(0.7, abs=5 * (0.7 * 0.3 / 4096) ** 0.5)


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("criterion", ["random", "taylor"])
def test_gradually_and_on_top_of_what_is_pruned(criterion: str, scope: str):
    network = tiny_network(classes=3)
    once = prune(network, Prune(sparsity=0.5, layers=LayerSelection(include=("7",))), context(network)).network
    before = dict(once.masks)
    once.masks = {}  # as if it had been uploaded
    step = Prune.model_validate(
        {
            "sparsity": 0.8,
            "criterion": criterion,
            "scope": scope,
            "schedule": Cubic(frequency=1, end=1.0),
            "training": Recovery(epochs=2, batch_size=8),
        }
    )
    result = prune(once, step, context(once, noise())).network
    expected = round(0.8 * TOTAL)
    if scope == "layer":
        expected = sum(round(0.8 * size) for size in (72, 1152, 8192, 96))
    assert gone(result) == expected
    assert not bool((result.masks["7.weight"] & ~before["7.weight"]).any())


def test_taylor_against_one_backward_pass():
    data = noise()
    network = tiny_network(classes=3)
    other = copy.deepcopy(network.module).eval()
    F.cross_entropy(other(normalised(data.train_images, data.statistics)), data.train_labels).backward()
    importance = flat(
        {name: (weight * weight.grad).abs() for name, weight in other.named_parameters() if weight.ndim > 1}
    )
    result = prune(network, Prune(sparsity=0.6, criterion="taylor"), context(network, data)).network
    kept = flat(result.masks)
    assert int((~kept).sum()) == round(0.6 * TOTAL)
    assert importance[~kept].max() <= importance[kept].min() * (1 + 1e-3)
    # It is no ranking by magnitude.
    assert not torch.equal(kept, flat(prune(network, Prune(sparsity=0.6), context(network)).network.masks))


def test_weights_of_no_gradient_go_behind_those_that_are_zero_already():
    """The last layer is zero, so no gradient reaches the others: all score zero, and those pruned before stay so."""
    network = tiny_network(classes=3)
    once = prune(network, Prune(sparsity=0.25, layers=LayerSelection(include=("7",))), context(network)).network
    torch.nn.init.zeros_(once.module.get_parameter("9.weight"))
    step = Prune(sparsity=0.5, criterion="taylor", layers=LayerSelection(include=("7", "3")))
    result = prune(once, step, context(once, noise())).network
    assert not bool((result.masks["7.weight"] & ~once.masks["7.weight"]).any())
    assert int((~result.masks["3.weight"]).sum() + (~result.masks["7.weight"]).sum()) == (1152 + 8192) // 2


def test_gradients_without_data():
    network = tiny_network()
    with pytest.raises(IncompatibleSpec, match="`taylor` takes gradients, which needs a data set"):
        prune(network, Prune(sparsity=0.5, criterion="taylor"), context(network))
