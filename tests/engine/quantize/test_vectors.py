"""Norms folded into quantized convolutions, and vectors of half the bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from modelpress.engine.formats import compact
from modelpress.engine.formats.load import load_network
from modelpress.engine.network import Network
from modelpress.engine.quantize.step import quantize
from modelpress.spec.steps import LayerSelection, Quantize
from tests.support.contexts import context
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def small() -> Network:
    """A residual network whose norms have scales of both signs, and one that lets nothing of a channel through."""
    made = network(describe("resnet20_cifar"))
    with torch.no_grad():
        for name, layer in made.module.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                torch.manual_seed(len(name))
                layer.weight.uniform_(-1, 1.5)
                layer.bias.normal_(std=0.1)
        made.module.get_parameter("bn1.weight")[3] = 0.0
    return made


def made_with(original: Network, **fields: object) -> Network:
    return quantize(original, Quantize.model_validate({"bits": 4, **fields}), context(original)).network


@torch.no_grad()
def test_a_folded_network_says_the_same_and_stays_on_its_levels(tmp_path: Path):
    original = small()
    plain, folded = made_with(original), made_with(original, fold_norms=True)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.module.modules())
    torch.testing.assert_close(folded.module(IMAGES), plain.module(IMAGES), rtol=1e-3, atol=1e-3)
    assert folded.grids.keys() == plain.grids.keys()
    for name, grid in folded.grids.items():
        weight = folded.module.get_parameter(name)
        assert torch.equal(grid.nearest(weight), weight)
        assert bool((grid.scales > 0).all())
        before = plain.grids[name].indices(plain.module.get_parameter(name)) - 7
        if name != "conv1.weight":  # of which one channel is zero since
            assert torch.equal((grid.indices(weight) - 7).abs(), before.abs())
    assert not bool(folded.module.get_parameter("conv1.weight")[3].any())
    compact.write(folded, tmp_path / "folded.mpz")
    loaded = load_network(tmp_path / "folded.mpz")
    assert loaded.grids.keys() == folded.grids.keys()
    assert torch.equal(loaded.module(IMAGES), folded.module(IMAGES))


@torch.no_grad()
def test_folding_and_rounding_take_most_of_the_bytes_that_are_no_levels(tmp_path: Path):
    """688 channels of five numbers of 27 bits, 11.6 kB, become two of 11 bits, 1.9 kB."""
    original, sizes = small(), {}
    for name, fields in {
        "plain": {},
        "bf16": {"vectors": "bf16"},
        "both": {"vectors": "bf16", "fold_norms": True},
    }.items():
        made = made_with(original, **fields)
        compact.write(made, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
        outputs = made.module(IMAGES)
        if name == "plain":
            expected = outputs
        assert float((outputs - expected).norm() / expected.norm()) < 0.05
    assert sizes["plain"] - sizes["bf16"] > 6000
    assert sizes["plain"] - sizes["both"] > 9000


def test_rounded_vectors_have_the_precision_of_bf16():
    made = made_with(tiny_network(), vectors="bf16", layers={"include": ("0", "7")})
    for name, tensor in made.module.state_dict().items():
        if tensor.ndim == 1 and tensor.dtype == torch.float32:
            assert torch.equal(tensor, tensor.bfloat16().float()), name
    assert torch.equal(made.grids["0.weight"].scales, made.grids["0.weight"].scales.bfloat16().float())
    # What was not chosen is what it was.
    assert torch.equal(made.module.get_parameter("3.weight"), tiny_network().module.get_parameter("3.weight"))


@torch.no_grad()
def test_a_convolution_that_is_not_quantized_takes_its_norm_as_well():
    original = small()
    step = Quantize(bits=4, fold_norms=True, layers=LayerSelection(include=("linear",)))
    made = quantize(original, step, context(original)).network
    assert set(made.grids) == {"linear.weight"}
    expected = made_with(original, layers={"include": ("linear",)}).module(IMAGES)
    torch.testing.assert_close(made.module(IMAGES), expected, rtol=1e-3, atol=1e-3)


def test_norms_that_cannot_be_folded_are_named():
    original = small()
    first = quantize(original, Quantize(scheme="codebook", bits=4), context(original)).network
    step = Quantize(bits=4, fold_norms=True, layers=LayerSelection(include=("layer1.*",)))
    result = quantize(first, step, context(original))
    reasons = {skipped.name: skipped.reason for skipped in result.skipped}
    assert "bn1" in reasons
    assert "codebook" in reasons["bn1"]
    assert "layer1.0.bn1" not in reasons
