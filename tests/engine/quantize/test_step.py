"""The step `quantize`, alone and with others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from modelpress.engine.factorize.step import factorize
from modelpress.engine.finetune.step import finetune
from modelpress.engine.formats import compact
from modelpress.engine.formats.load import load_network
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Cubic, Factorize, Finetune, LayerSelection, Prune, Quantize, RankNumber
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import accuracy, digits, noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

BRIEF = Recovery(epochs=2, batch_size=8, precision="fp32", learning_rate=0.01)


def small():
    return network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))


def on_grids(made) -> bool:
    return all(
        torch.equal(grid.nearest(made.module.get_parameter(name)), made.module.get_parameter(name))
        for name, grid in made.grids.items()
    )


@pytest.mark.parametrize("scheme", ["uniform", "codebook"])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_each_layer_has_few_values_and_nothing_else_changes(scheme: str, bits: int):
    original = small()
    result = quantize(original, Quantize(scheme=scheme, bits=bits), context(original))
    made = result.network
    assert set(made.grids) == {f"{change.name}.weight" for change in result.layers}
    assert on_grids(made)
    for name, before in original.module.state_dict().items():
        after = made.module.state_dict()[name]
        if name not in made.grids:
            assert torch.equal(after, before)
        elif scheme == "codebook":
            assert len(after.unique()) <= 2**bits
        else:
            assert max(len(row.unique()) for row in after.flatten(1)) <= 2**bits - 1
    assert {change.bits for change in result.layers} == {bits}


def test_more_bits_come_nearer():
    original = small()
    errors = []
    for bits in (2, 4, 6, 8):
        made = quantize(original, Quantize(bits=bits), context(original)).network.module.state_dict()
        errors.append(
            sum(
                float((made[n] - t).square().sum())
                for n, t in original.module.state_dict().items()
                if n.endswith("weight")
            )
        )
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 100


def test_first_and_last_and_named_layers_have_their_own_bits():
    original = small()
    step = Quantize(bits=3, first_and_last_bits=8, bits_per_layer={"features.4": 5})
    bits = {change.name: change.bits for change in quantize(original, step, context(original)).layers}
    names = list(bits)
    assert (bits[names[0]], bits[names[-1]], bits["features.4"]) == (8, 8, 5)
    assert {value for name, value in bits.items() if name not in (names[0], names[-1], "features.4")} == {3}


def test_pruned_quantized_and_taught_in_the_same_training():
    original, data = small(), noise(16, size=32, heldout=2)
    first = quantize(original, Quantize(scheme="codebook", bits=4), context(original, data)).network
    step = Prune(
        sparsity=0.5, schedule=Cubic(end=1.0, frequency=1), training=BRIEF.model_copy(update={"teacher": "original"})
    )
    made = prune(first, step, context(original, data)).network
    assert set(made.grids) == set(first.grids)
    assert on_grids(made)
    assert made.masks
    for name, kept in made.masks.items():
        assert not bool(made.module.get_parameter(name)[~kept].any())
    assert any(not torch.equal(made.grids[name].levels, first.grids[name].levels) for name in made.grids)


def test_layers_that_are_not_factorized_stay_quantized():
    original, data = small(), noise(16, size=32, heldout=2)
    first = quantize(original, Quantize(bits=4), context(original)).network
    step = Factorize(rank=RankNumber(value=1), layers=LayerSelection(include=("features.4",)), training=BRIEF)
    made = factorize(first, step, context(original, data)).network
    assert set(first.grids) - set(made.grids) == {"features.4.weight"}
    assert on_grids(made)
    assert "features.4.weight" in first.grids


def test_training_on_two_bits_wins_back_accuracy():
    data = digits()
    original = tiny_network()
    learned = finetune(
        original,
        Finetune(training=Recovery(epochs=6, batch_size=64, learning_rate=0.05, precision="fp32")),
        context(original, data),
    ).network
    ctx = context(learned, data)
    without = quantize(learned, Quantize(bits=2, calibration="max"), ctx).network
    trained = quantize(
        learned,
        Quantize(
            bits=2, training=Recovery(epochs=4, batch_size=64, learning_rate=0.02, precision="fp32", teacher="original")
        ),
        ctx,
    ).network
    assert on_grids(trained)
    assert accuracy(trained.module, data) > max(0.85, accuracy(without.module, data))


def test_the_file_is_small_and_gives_the_same_network(tmp_path: Path):
    original = small()
    made = quantize(original, Quantize(bits=4), context(original)).network
    compact.write(original, tmp_path / "before.mpz")
    compact.write(made, tmp_path / "after.mpz")
    assert (tmp_path / "after.mpz").stat().st_size * 5 < (tmp_path / "before.mpz").stat().st_size
    loaded = load_network(tmp_path / "after.mpz")
    assert set(loaded.grids) == set(made.grids)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(loaded.module(images), made.module(images))


def test_matrices_that_belong_to_no_layer_are_named():
    original = tiny_network()
    original.module.append(nn.MultiheadAttention(4, 2))
    names = {skipped.name for skipped in quantize(original, Quantize(), context(original)).skipped}
    assert names == {"10.in_proj_weight"}
    step = Quantize(layers=LayerSelection(include=("0", "10.*")))
    assert quantize(original, step, context(original)).skipped == ()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Quantize(layers=LayerSelection(include=("nothing.*",))), "no layer matches 'nothing.*'"),
        (Quantize(bits_per_layer={"nothing": 4}), "no layer to quantize matches 'nothing'"),
        (Quantize(training=BRIEF), "needs a data set"),
    ],
)
def test_what_cannot_be_done_is_refused(step: Quantize, message: str):
    original = small()
    with pytest.raises(IncompatibleSpec) as caught:
        quantize(original, step, context(original))
    assert message in caught.value.message
