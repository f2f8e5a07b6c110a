from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.factorize.calibration import calibration_batches
from modelpress.engine.factorize.norm_statistics import set_statistics
from modelpress.engine.factorize.step import factorize
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.quantize.step import quantize
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import Factorize, PruneChannels, Quantize
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

SCHEMES = ["vertical_horizontal", "channel_svd", "tucker2", "cp"]


def step(**options: object) -> Factorize:
    return Factorize.model_validate({"rank": {"kind": "number", "value": 3}, "layers": {"include": ["3"]}, **options})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_data_norms_change_not_a_bit(scheme: str):
    original = tiny_network()
    plain = factorize(original, step(scheme=scheme), context(original)).network.module
    normed = factorize(original, step(scheme=scheme, batch_norm=True), context(original)).network.module
    names = [name for name, _ in normed[3].named_children()]
    convolutions = len(plain[3])
    assert [name for name in names if not name.startswith("norm")] == [str(index) for index in range(convolutions)]
    assert names[1::2] == [f"norm{index}" for index in range(convolutions - 1)]
    images = 100 * torch.randn(4, 1, 8, 8)
    assert torch.equal(normed(images), plain(images))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_data_norms_change_nothing_and_hold_in_training_mode(scheme: str):
    original, data = tiny_network(classes=3), noise()
    plain = factorize(original, step(scheme=scheme), context(original, data)).network.module
    normed = factorize(original, step(scheme=scheme, batch_norm=True), context(original, data)).network.module
    (images,) = calibration_batches(original, context(original, data), 256)
    torch.testing.assert_close(normed(images), plain(images), rtol=1e-4, atol=1e-4)
    # Training takes mean and variance from the batch, here all images; its variance is that of n, not of n - 1.
    given = plain[:3](images)
    torch.testing.assert_close(copy.deepcopy(normed[3]).train()(given), plain[3](given), rtol=5e-3, atol=5e-3)
    between = plain[3][0](given).detach().double().numpy()
    norm = normed[3].norm0
    np.testing.assert_allclose(norm.running_mean.numpy(), between.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), between.var((0, 2, 3), ddof=1), rtol=1e-4)


def test_statistics_over_batches_are_those_of_all_images():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)).eval()
    other = copy.deepcopy(module)
    signals = 5 + torch.randn(10, 2, 7)
    set_statistics(module, {"1": module[1]}, [signals[:3], signals[3:]])  # type: ignore[dict-item]
    set_statistics(other, {"1": other[1]}, [signals])  # type: ignore[dict-item]
    torch.testing.assert_close(module.state_dict(), other.state_dict())
    torch.testing.assert_close(module(signals), module[0](signals))


def test_a_channel_that_is_always_the_same():
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    images = torch.ones(3, 1, 2, 2)
    set_statistics(module, {"1": module[1]}, [images])  # type: ignore[dict-item]
    torch.testing.assert_close(module(images), module[0](images))
    torch.testing.assert_close(module.train()(images), module[0](images))


def test_a_single_number_says_nothing_of_a_variance():
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    before = copy.deepcopy(module.state_dict())
    set_statistics(module, {"1": module[1]}, [torch.ones(1, 1, 1, 1)])  # type: ignore[dict-item]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_linear_layers_have_none():
    original = tiny_network()
    result = factorize(original, step(batch_norm=True, layers={"include": ["3", "7"]}), context(original))
    assert [len(result.network.module[index]) for index in (3, 7)] == [3, 2]
    assert [edit.batch_norm for edit in result.network.description.edits] == [True, False]  # type: ignore[union-attr]
    with pytest.raises(IncompatibleSpec, match="no convolution is chosen; drop `batch_norm`"):
        factorize(original, step(batch_norm=True, layers={"include": ["7"]}), context(original))


def test_norms_learn_in_the_training_that_follows():
    original, data = tiny_network(classes=3), noise()
    options = {"batch_norm": True, "scheme": "channel_svd"}
    before = factorize(original, step(**options), context(original, data)).network.module[3].norm0
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 0.05, "precision": "fp32"}
    result = factorize(original, step(training=training, **options), context(original, data))
    after = result.network.module[3].norm0
    assert not torch.equal(after.running_mean, before.running_mean)
    assert not torch.equal(after.weight, before.weight)
    assert bool(torch.isfinite(result.network.module(torch.randn(2, 1, 8, 8))).all())


def normed_vgg() -> tuple[Network, torch.Tensor]:
    original = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    data = noise(8, size=32, heldout=2)
    options = {"rank": {"kind": "ratio", "value": 0.3}, "layers": {"include": ["features.*"]}, "batch_norm": True}
    made = factorize(original, Factorize.model_validate(options), context(original, data)).network
    return made, torch.randn(2, 1, 32, 32)


def rebuilt(made: Network) -> nn.Module:
    again = rebuild(NetworkDescription.model_validate_json(made.description.model_dump_json())).eval()
    again.load_state_dict(made.module.state_dict())
    return again


def test_pairs_with_norms_are_built_again_quantized_and_lose_channels():
    made, images = normed_vgg()
    assert torch.equal(rebuilt(made)(images), made.module(images))
    quantized = quantize(made, Quantize(bits=4), context(made)).network
    assert "features.4.0.weight" in quantized.grids
    assert "features.4.norm0.weight" not in quantized.grids
    pruning = PruneChannels.model_validate({"target": {"kind": "channels", "removed": 0.3}})
    pruned = prune_channels(quantized, pruning, context(made)).network
    pair = pruned.module.get_submodule("features.4")
    assert pair.norm0.num_features == pair.get_parameter("0.weight").shape[0]  # type: ignore[union-attr]
    assert torch.equal(rebuilt(pruned)(images), pruned.module(images))


def test_a_later_step_folds_them():
    made, images = normed_vgg()
    # At full rank nothing would be smaller: the step folds and leaves the layers.
    options = {
        "rank": {"kind": "ratio", "value": 1.0},
        "fold_batch_norm": True,
        "layers": {"include": ["features.4.*"]},
    }
    folded = factorize(made, Factorize.model_validate(options), context(made)).network
    assert isinstance(folded.module.get_submodule("features.4.norm0"), nn.Identity)
    torch.testing.assert_close(folded.module(images), made.module(images), rtol=1e-3, atol=1e-4)
    assert torch.equal(rebuilt(folded)(images), folded.module(images))
    # What became of it can be factorized again, bias and all.
    options = {"rank": {"kind": "number", "value": 1}, "batch_norm": True, "layers": {"include": ["features.4.0"]}}
    again = factorize(folded, Factorize.model_validate(options), context(made)).network
    assert torch.equal(rebuilt(again)(images), again.module(images))
