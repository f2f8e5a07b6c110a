from __future__ import annotations

import copy
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from modelpress.engine.factorize.calibration import calibration_batches, layer_inputs
from modelpress.engine.factorize.schemes import SCHEMES
from modelpress.engine.factorize.step import factorize
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.check.split import Scheme
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import ConvolutionScheme, Factorize, Prune, Quantize
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

RATIO = {"kind": "ratio", "value": 0.4}


def step(**options: object) -> Factorize:
    return Factorize.model_validate({"rank": RATIO, **options})


def drawn_tiny() -> Network:
    """The tiny network with norms that are no identities."""
    original = tiny_network(classes=3)
    torch.manual_seed(0)
    for layer in original.module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.3)  # type: ignore[union-attr]  # it tracks them
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return original


def test_every_scheme_is_carried_out():
    assert set(SCHEMES) == set(get_args(Scheme))
    assert set(get_args(ConvolutionScheme)) == set(SCHEMES) - {"svd"}


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"scheme": "tucker2"}, {"tucker_layer", "factorized_layer"}),
        ({"scheme": "cp", "rank": {"kind": "ratio", "value": 0.1}}, {"cp_layer", "factorized_layer"}),
        ({"scheme": "tucker2", "fold_batch_norm": True}, {"tucker_layer", "factorized_layer", "folded_norm"}),
    ],
)
def test_the_result_can_be_built_again(options: dict[str, object], kinds: set[str]):
    original = network(describe("vgg11_bn_cifar", width=0.0625))
    before = copy.deepcopy(original.module.state_dict())
    result = factorize(original, step(**options), context(original))
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())
    assert {edit.kind for edit in result.network.description.edits} == kinds
    described = type(result.network.description).model_validate_json(result.network.description.model_dump_json())
    again = rebuild(described).eval()
    again.load_state_dict(result.network.module.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(images), result.network.module(images))
    for change in result.layers:
        assert change.parameters_after < change.parameters_before


def test_tucker_by_energy_keeps_at_least_that_much():
    original = tiny_network()
    kernel = original.module[3].weight.detach().double()
    with torch.no_grad():
        original.module[3].weight.mul_(torch.linspace(1, 0, 16)[:, None, None, None] ** 4)
        kernel = original.module[3].weight.detach().double()
    options = {"scheme": "tucker2", "rank": {"kind": "energy", "value": 0.9}, "layers": {"include": ["3"]}}
    chain = factorize(original, step(**options), context(original)).network.module[3]
    first, core, last = (chain[index].weight.detach().double().numpy() for index in range(3))
    made = np.einsum("npab,pqyx,qcab->ncyx", last, core, first)
    lost = float(((kernel.numpy() - made) ** 2).sum() / (kernel**2).sum())
    assert 0 < lost <= 0.1


def test_layers_that_would_not_shrink_stay_and_are_named():
    original = tiny_network()
    spec = step(scheme="cp", rank={"kind": "number", "value": 50}, layers={"include": ["3"]})
    result = factorize(original, spec, context(original))
    # 16 x 8 x 9 = 1152 weights; a component has 16 + 8 + 3 + 3.
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("3", "thinner layers of rank 50 would not be smaller; up to rank 38 they are")
    ]
    spec = step(scheme="tucker2", rank={"kind": "ratio", "value": 1.0}, layers={"include": ["3"]})
    result = factorize(original, spec, context(original))
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("3", "thinner layers of ranks 8 and 16 would not be smaller; lower ranks may be")
    ]


def test_the_weights_of_a_tucker_layer():
    original = tiny_network()
    spec = step(scheme="tucker2", rank={"kind": "number", "value": 8}, layers={"include": ["3"]})
    result = factorize(original, spec, context(original))
    assert [change.parameters_after for change in result.layers] == [8 * 8 + 8 * 8 * 9 + 8 * 16 + 16]


def test_masks_and_grids_of_what_was_replaced_are_dropped():
    original = tiny_network(classes=3)
    pruned = prune(original, Prune(sparsity=0.5), context(original)).network
    quantized = quantize(pruned, Quantize(bits=8), context(original)).network
    for options in ({"scheme": "tucker2"}, {"scheme": "cp", "rank": {"kind": "number", "value": 4}}):
        result = factorize(quantized, step(layers={"include": ["3"]}, **options), context(original)).network
        assert "3.weight" not in result.masks
        assert "3.weight" not in result.grids
        assert "7.weight" in result.masks
        assert "7.weight" in result.grids


def test_folding_in_the_step_changes_nothing_but_the_norms():
    original = drawn_tiny()
    # Rank-deficient, so that factorizing changes nothing either.
    with torch.no_grad():
        original.module[7].weight.copy_(torch.randn(32, 3) @ torch.randn(3, 256) / 16)
    options = {
        "rank": {"kind": "energy", "value": 0.999999},
        "layers": {"include": ["3", "7"]},
        "scheme": "channel_svd",
    }
    result = factorize(original, step(fold_batch_norm=True, **options), context(original))
    assert isinstance(result.network.module[4], nn.Identity)
    assert isinstance(result.network.module[1], nn.BatchNorm2d)  # Layer 0 was not chosen.
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(result.network.module(images), original.module(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", ["uniform", "codebook"])
def test_folding_leaves_quantized_layers_that_stay_whole_quantized(scheme: str):
    original = drawn_tiny()
    quantized = quantize(original, Quantize(bits=4, scheme=scheme), context(original)).network
    whole = {"rank": {"kind": "ratio", "value": 1.0}, "scheme": "channel_svd"}
    result = factorize(quantized, step(fold_batch_norm=True, **whole), context(original))
    assert result.network.grids.keys() == quantized.grids.keys()
    for name, grid in result.network.grids.items():
        weight = result.network.module.get_parameter(name)
        assert torch.equal(grid.nearest(weight), weight)
    norms = [name for name, layer in result.network.module.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    left = {skipped.name: skipped.reason for skipped in result.skipped}
    # One codebook is for all channels, whose scales differ.
    assert norms == ([] if scheme == "uniform" else ["1", "4"])
    assert all("has a codebook" in left[name] for name in norms)
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(result.network.module(images), quantized.module(images), rtol=1e-3, atol=1e-3)


def test_whitened_layers_lose_less_of_their_outputs():
    original, data = drawn_tiny(), noise()
    options = {"scheme": "channel_svd", "rank": {"kind": "number", "value": 4}, "layers": {"include": ["3", "7"]}}
    plain = factorize(original, step(**options), context(original, data)).network
    whitened = factorize(original, step(whiten=True, **options), context(original, data)).network
    (images,) = calibration_batches(original, context(original, data), 256)
    for index in (3, 7):
        layer = original.module[index]
        given = original.module[:index](images)
        wanted = layer(given)
        errors = [
            float((made.module[index](given) - wanted).detach().double().square().sum()) for made in (plain, whitened)
        ]
        rows = layer_inputs(layer, given).detach().double().numpy()
        matrix = layer.weight.detach().double().flatten(1).T.numpy()
        values = np.linalg.svd(rows @ matrix, compute_uv=False)
        assert errors[1] == pytest.approx((values[4:] ** 2).sum(), rel=1e-2)
        assert errors[1] < errors[0]


def test_what_cannot_be_whitened_is_refused():
    original = tiny_network(classes=3)
    with pytest.raises(IncompatibleSpec, match="scheme `channel_svd` only"):
        factorize(original, step(whiten=True), context(original, noise()))
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        factorize(original, step(whiten=True, scheme="channel_svd"), context(original))
    linear = factorize(original, step(whiten=True, layers={"include": ["7"]}), context(original, noise()))
    assert [change.name for change in linear.layers] == ["7"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "cp", "rank": {"kind": "energy", "value": 0.9}}, "no singular values that a rank energy"),
        ({"scheme": "tucker2", "rank": {"kind": "budget", "parameters": 0.5}}, "no singular values"),
        ({"scheme": "cp", "whiten": True}, "defined for matrices"),
        ({"scheme": "channel_svd", "whiten": True, "rank": {"kind": "evbmf"}}, "evbmf finds the noise in weights"),
    ],
)
def test_combinations_that_mean_nothing(options: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        step(**options)
