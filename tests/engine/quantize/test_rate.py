"""Trainings that penalise the coded length, and learn the steps of channels."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from modelpress.engine import journal
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.finetune.step import finetune
from modelpress.engine.formats import tensor_stream
from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.held import HeldGrids
from modelpress.engine.quantize.rate import RatePenalty
from modelpress.engine.quantize.step import quantize
from modelpress.engine.quantize.uniform import uniform_grid, uniform_levels
from modelpress.spec.steps import Finetune, Prune, Quantize
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import accuracy, digits
from tests.support.tiny import tiny_network

DATA = digits()
TRAINING = Recovery(epochs=3, batch_size=64, learning_rate=0.03, precision="fp32", teacher="original")


@pytest.fixture(scope="module")
def learned() -> Network:
    training = Recovery(epochs=4, batch_size=64, learning_rate=0.05, precision="fp32")
    return finetune(tiny_network(), Finetune(training=training), context(tiny_network(), DATA)).network


def stored(network: Network) -> int:
    return len(tensor_stream.pack_state(network.module.state_dict(), network.grids))


def held_layer(learned: bool) -> tuple[nn.Linear, HeldGrids]:
    torch.manual_seed(0)
    layer = nn.Linear(40, 6)
    return layer, HeldGrids(layer, {"weight": uniform_grid(layer.weight, 3, "max")}, ["weight"] if learned else [])


def test_the_penaltys_gradient_is_that_of_the_mean_bits():
    """By autograd, of the interpolated lengths written out, with the shares held fast."""
    layer, grids = held_layer(learned=True)
    layer.weight.grad = torch.zeros_like(layer.weight)
    grids.find_gradients(1, 4)
    multiples, scales = grids.parameters()[0], grids["weight"].scales
    assert multiples.grad is not None
    RatePenalty(layer, grids, ["weight"], 2.0).add_gradients(1, 4)

    twin, steps = layer.weight.detach().clone().requires_grad_(), scales.detach().clone().requires_grad_()
    units = twin / steps[:, None]
    counts = torch.bincount(units.detach().round().long().flatten() + 3, minlength=7) + 0.5
    lengths = counts.sum().log2() - counts.log2()
    below = units.detach().floor().long().clamp(max=2)
    share = units - below
    bits = (1 - share) * lengths[below + 3] + share * lengths[below + 4]
    (2.0 * bits.mean()).backward()
    torch.testing.assert_close(layer.weight.grad, twin.grad)
    # A channel of 40 weights on the levels -3 ... 3; of what is learned, which is what steps are of their first.
    torch.testing.assert_close(multiples.grad * scales, steps.grad / math.sqrt(40 * 3))


def test_the_gradient_of_steps_is_lsqs():
    grid = Grid(uniform_levels(2), torch.tensor([0.5, 2.0]))
    layer = nn.Linear(3, 2)
    layer.weight.data = torch.tensor([[0.2, 0.4, 0.9], [-5.0, 0.5, 1.5]])
    held = HeldGrids(layer, {"weight": grid}, ["weight"])
    layer.weight.grad = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    held.find_gradients(1, 4)
    # Units 0.4 0.8 1.8 | -2.5 0.25 0.75, so that a step moves the values by -0.4 0.2 1 | -1 -0.25 0.25.
    expected = torch.tensor([-0.4 + 2 * 0.2 + 3, -1 - 0.25 + 0.25]) / math.sqrt(3)
    torch.testing.assert_close(held.parameters()[0].grad * grid.scales, expected)
    # Once the grids are fixed the optimiser has nothing to move them by.
    held.find_gradients(4, 4)
    assert held.parameters()[0].grad is None


def test_a_higher_rate_gives_a_smaller_file_and_a_network_that_still_works(
    learned: Network, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)  # a quick machine is done before anything is due
    sizes, zeros = [], []
    for rate in (0.0, 0.3, 3.0):
        seen: list[dict[str, float]] = []
        given = context(learned, DATA, on_progress=lambda progress, seen=seen: seen.append(dict(progress.metrics)))
        step = Quantize(bits=3, rate=rate, step_sizes="learned", training=TRAINING)
        made = quantize(learned, step, given).network
        weights = torch.cat([made.module.get_parameter(name).flatten() for name in made.grids])
        assert all(torch.equal(g.nearest(w), w) for n, g in made.grids.items() for w in [made.module.get_parameter(n)])
        assert accuracy(made.module, DATA) > 0.9
        assert ("bits_per_weight" in seen[-1]) == (rate > 0)
        sizes.append(stored(made))
        zeros.append(float((weights == 0).float().mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.6 * sizes[0]
    assert zeros == sorted(zeros)


def test_fitted_steps_are_penalised_too_and_pruned_weights_stay_zero(learned: Network):
    pruned = prune(learned, Prune(sparsity=0.5), context(learned)).network
    step = Quantize(bits=3, training=TRAINING)
    plain = quantize(pruned, step, context(learned, DATA)).network
    made = quantize(pruned, step.model_copy(update={"rate": 2.0}), context(learned, DATA)).network
    assert stored(made) < 0.9 * stored(plain)
    for name, kept in pruned.masks.items():
        assert not bool(made.module.get_parameter(name)[~kept].any())


@pytest.mark.parametrize("size", [1e-10, 1e-5])
def test_a_channel_that_is_all_but_zero_is_not_thrown_about(size: float):
    """Weight decay leaves such, and without a norm behind them nothing takes their size away again."""
    without = tiny_network(norm=False)
    step = Finetune(training=Recovery(epochs=4, batch_size=64, learning_rate=0.05, precision="fp32"))
    network = finetune(without, step, context(without, DATA)).network
    name = next(name for name, weight in network.module.named_parameters() if weight.ndim == 4)
    with torch.no_grad():
        channel = network.module.get_parameter(name)[0]
        channel.mul_(size / channel.abs().max())
    made = quantize(network, Quantize(bits=8, rate=0.3, training=TRAINING), context(network, DATA)).network
    sizes = made.module.get_parameter(name).detach().abs().flatten(1).amax(1)
    assert float(sizes[0]) < float(sizes[1:].max())
    assert accuracy(made.module, DATA) > 0.85


def test_the_classes_chosen_last_go_into_the_checkpoint():
    torch.manual_seed(1)
    layer = nn.Linear(128, 64)
    layer.weight.data *= torch.linspace(0.05, 1, 64)[:, None]  # rows that differ, and so have classes
    grids = HeldGrids(layer, {"weight": Grid(uniform_levels(4), torch.tensor([0.01]))})

    def pulled(penalty: RatePenalty, step: int) -> torch.Tensor:
        layer.weight.grad = torch.zeros_like(layer.weight)
        penalty.add_gradients(step, 100)
        return layer.weight.grad

    first, resumed, fresh = (RatePenalty(layer, grids, ["weight"], 1.0) for _ in range(3))
    pulled(first, 1)
    resumed.resume(first.snapshot())
    expected = pulled(first, 2)
    assert torch.equal(pulled(resumed, 2), expected)
    assert not torch.equal(pulled(fresh, 2), expected)


def test_a_damaged_checkpoint_is_refused():
    layer, grids = held_layer(learned=False)
    penalty = RatePenalty(layer, grids, ["weight"], 1.0)
    with pytest.raises(UnusableCheckpoint):
        penalty.resume(Snapshot({}))
    with pytest.raises(UnusableCheckpoint, match="context"):
        penalty.resume(Snapshot({"weight": torch.full((6, 40), 16, dtype=torch.uint8)}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 1.0}, "`rate` acts in a training"),
        ({"step_sizes": "learned"}, "`step_sizes: learned` acts in a training"),
        ({"rate": 1.0, "scheme": "codebook", "training": {}}, "`rate` is for even steps"),
        ({"fold_norms": True, "scheme": "codebook"}, "`fold_norms` is for even steps"),
        ({"rate": -1.0, "training": {}}, "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        Quantize.model_validate(fields)
