"""RigL: weights that are dropped and grown, against a numpy version of algorithm 1, and through whole trainings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelpress.engine import journal
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.regrowth import Regrowth, drop_and_grow
from modelpress.engine.prune.schedule import dropped_share
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Prune, Quantize, RigL
from tests.support.contexts import context
from tests.support.image_data import accuracy, digits, noise
from tests.support.tiny import tiny_module, tiny_network

LAYERS = ("0", "3", "7", "9")
TRAINING = {"epochs": 4, "batch_size": 4, "learning_rate": 0.05, "precision": "fp32"}  # of 24 images: 24 steps
SCHEDULE = {"kind": "rigl", "frequency": 3, "drop": 0.5}


def exchanged(weight: np.ndarray, gradient: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """Algorithm 1 of the paper with sorted lists of places; weights and gradients differ in magnitude."""
    active = sorted(np.flatnonzero(kept), key=lambda place: abs(weight.flat[place]))
    survivors = set(active[count:])
    others = [place for place in range(kept.size) if place not in survivors]
    grown = sorted(others, key=lambda place: abs(gradient.flat[place]))[len(others) - count :]
    mask = np.zeros(kept.size, dtype=bool)
    mask[[*survivors, *grown]] = True
    return mask.reshape(kept.shape)


def masks_of(network: Network) -> dict[str, Tensor]:
    return {name: network.masks[f"{name}.weight"] for name in LAYERS}


def test_the_dropped_share_by_hand():
    schedule = RigL(drop=0.3, end=0.8)
    assert [dropped_share(schedule, step, 100) for step in (0, 20, 40, 80, 100)] == pytest.approx(
        [0.3, 0.15 * (1 + 0.5**0.5), 0.15, 0.0, 0.0]
    )
    assert list(RigL(frequency=30, end=0.9).updates(100)) == [30, 60]
    assert list(RigL(frequency=30, end=0.91).updates(100)) == [30, 60, 90]


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [([9, 9, 9, 1, 7, 5], [1, 1, 1, 0, 0, 0]), ([9, 2, 9, 1, 7, 5], [1, 0, 1, 0, 1, 0])],
)
def test_an_exchange_by_hand(gradient: list[int], expected: list[int]):
    weight, kept = torch.tensor([4.0, -1, 3, 0, 0, 0]), torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    assert drop_and_grow(weight, torch.tensor(gradient, dtype=torch.float32), kept, 1).int().tolist() == expected


@settings(max_examples=60, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_an_exchange_against_numpy(shape: list[int], share: float, seed: int):
    draw = np.random.default_rng(seed)
    size = int(np.prod(shape))

    def different() -> np.ndarray:
        return (draw.permutation(size) + 1.0).reshape(shape) * draw.choice([-1.0, 1.0], shape)

    kept = draw.random(shape) < draw.random()
    weight, gradient, count = different() * kept, different(), int(share * kept.sum())
    found = drop_and_grow(torch.from_numpy(weight), torch.from_numpy(gradient), torch.from_numpy(kept), count)
    assert np.array_equal(found.numpy(), exchanged(weight, gradient, kept, count))


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1), st.booleans()), min_size=1, max_size=20),
    share=st.floats(0, 1),
)
def test_of_equal_ones_as_many_are_kept_as_before(entries: list[tuple[int, int, bool]], share: float):
    weight, gradient, kept = (torch.tensor(column) for column in zip(*entries, strict=True))
    count = int(share * int(kept.sum()))
    found = drop_and_grow(weight.float() * kept, gradient.float(), kept, count)
    assert int(found.sum()) == int(kept.sum())
    assert int((kept & ~found).sum()) <= count


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_hundred_steps_of_momentum_and_decay(optimizer: str, channels_last: bool):
    torch.manual_seed(0)
    module = tiny_module(classes=3, width=4)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    weights = {f"{name}.weight": module.get_parameter(f"{name}.weight") for name in LAYERS}
    first = {name: torch.rand(weight.shape) < 0.2 for name, weight in weights.items()}
    masks = Masks(module, first)
    stepper: torch.optim.Optimizer
    if optimizer == "sgd":
        stepper = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    else:
        stepper = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    masks.follow(stepper)
    schedule = RigL(frequency=10, drop=0.4, end=0.75)
    regrowth = Regrowth(schedule, weights, masks)
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    exchanges = 0
    for step in range(1, 101):
        stepper.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        before, values = masks.kept(), copy.deepcopy(module.state_dict())
        regrowth(step, 100)
        after = masks.kept()
        for name, weight in weights.items():
            assert int(after[name].sum()) == int(first[name].sum())
            if step % 10 != 0 or step >= 75:
                assert torch.equal(after[name], before[name])
                continue
            # f(t) = 0.2 (1 + cos(pi t / 75)) of the layer's weights
            count = int(0.2 * (1 + np.cos(np.pi * step / 75)) * before[name].numpy().sum())
            assert weight.grad is not None
            expected = exchanged(values[name].numpy(), weight.grad.numpy(), before[name].numpy(), count)
            assert np.array_equal(after[name].numpy(), expected)
            come = after[name] & ~before[name]
            exchanges += int(come.sum())
            assert not bool(weight[come].any())
            moments = [moment for moment in stepper.state[weight].values() if moment.shape == weight.shape]
            assert len(moments) == (1 if optimizer == "sgd" else 2)
            assert all(not bool(moment[come].any()) for moment in moments)
            assert all(bool(moment[before[name] & after[name]].any()) for moment in moments)
        stepper.step()
        masks.apply()
        assert all(torch.equal(weight == 0, ~masks.kept()[name]) for name, weight in weights.items())
    assert exchanges > 100


def test_a_layer_without_a_gradient_stays_as_it_is():
    torch.manual_seed(0)
    module = tiny_module(classes=3)
    module.get_parameter("3.weight").requires_grad_(False)
    weights = {f"{name}.weight": module.get_parameter(f"{name}.weight") for name in LAYERS}
    masks = Masks(module, {name: torch.rand(weight.shape) < 0.5 for name, weight in weights.items()})
    before = masks.kept()
    module(torch.randn(2, 1, 8, 8)).square().sum().backward()
    Regrowth(RigL(frequency=1), weights, masks)(1, 100)
    same = {name: torch.equal(mask, before[name]) for name, mask in masks.kept().items()}
    assert same == {"0.weight": False, "3.weight": True, "7.weight": False, "9.weight": False}


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("scope", ["global", "layer", "lamp", "erk"])
def test_through_the_step_each_layer_keeps_its_number(monkeypatch: pytest.MonkeyPatch, scope: str, clip: float | None):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    network = tiny_network(classes=3)
    seen: list[TrainingProgress] = []
    spec = {"sparsity": 0.8, "scope": scope, "schedule": SCHEDULE, "training": {**TRAINING, "gradient_clip": clip}}
    at_first = prune(network, Prune.model_validate({"sparsity": 0.8, "scope": scope}), context(network)).network
    result = prune(network, Prune.model_validate(spec), context(network, noise(), on_progress=seen.append)).network
    assert {progress.metrics["sparsity"] for progress in seen} == {seen[0].metrics["sparsity"]}
    assert len(seen) == 24
    for name, mask in masks_of(result).items():
        assert int(mask.sum()) == int(masks_of(at_first)[name].sum())
        assert torch.equal(result.module.get_parameter(f"{name}.weight") != 0, mask)
    assert any(not torch.equal(mask, masks_of(at_first)[name]) for name, mask in masks_of(result).items())


def test_zeros_that_were_there_may_come_back_but_only_in_the_chosen_layers():
    network = tiny_network(classes=3)
    once = prune(network, Prune(sparsity=0.8, scope="layer"), context(network)).network
    spec = {"sparsity": 0.8, "scope": "layer", "schedule": SCHEDULE, "training": TRAINING, "layers": {"exclude": ["7"]}}
    twice = prune(once, Prune.model_validate(spec), context(once, noise())).network
    for name in ("0", "3", "9"):
        assert int(masks_of(twice)[name].sum()) == int(masks_of(once)[name].sum())
    assert bool((masks_of(twice)["3"] & ~masks_of(once)["3"]).any())
    assert torch.equal(masks_of(twice)["7"], masks_of(once)["7"])


@pytest.mark.parametrize(
    "spec",
    [
        {"schedule": SCHEDULE},
        {"criterion": "taylor", "schedule": SCHEDULE},
        {"criterion": "movement", "schedule": {"kind": "cubic", "frequency": 3}},
    ],
)
def test_quantized_weights_stay_on_their_values_while_others_come(spec: dict[str, Any]):
    network = tiny_network(classes=3)
    quantized = quantize(network, Quantize(bits=3), context(network)).network
    step = Prune.model_validate({"sparsity": 0.75, "scope": "layer", "training": TRAINING, **spec})
    result = prune(quantized, step, context(quantized, noise())).network
    for name, mask in result.masks.items():
        weight = result.module.get_parameter(name)
        assert int((~mask).sum()) == round(0.75 * mask.numel())
        assert not bool(weight[~mask].any())
        assert bool(weight.any())
        assert torch.equal(result.grids[name].nearest(weight), weight)


@pytest.mark.parametrize("frequency", [18, 100])
def test_a_training_too_short_to_exchange_anything(frequency: int):
    network = tiny_network(classes=3)
    spec: dict[str, Any] = {"sparsity": 0.8, "schedule": {"kind": "rigl", "frequency": frequency}, "training": TRAINING}
    with pytest.raises(IncompatibleSpec, match=rf"every {frequency} steps, before step 18 of the training's 24, so"):
        prune(network, Prune.model_validate(spec), context(network, noise()))


def test_weights_chosen_at_random_are_exchanged_for_better_ones():
    data = digits()
    network = tiny_network(data.statistics)
    training = {"epochs": 3, "learning_rate": 0.1, "batch_size": 64, "precision": "fp32"}
    spec = {"sparsity": 0.97, "criterion": "random", "scope": "erk", "training": training}
    exchanging = {**spec, "schedule": {"kind": "rigl", "frequency": 5}}
    fixed, moving = (
        prune(network, Prune.model_validate(step), context(network, data)).network for step in (spec, exchanging)
    )
    assert accuracy(moving.module, data) > accuracy(fixed.module, data) + 0.2
