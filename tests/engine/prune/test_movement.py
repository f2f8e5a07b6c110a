"""Movement pruning against the paper's equations in numpy, and through the step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine import journal
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.movement import Movement
from modelpress.engine.prune.schedule import rounds
from modelpress.engine.prune.scores import keep_highest
from modelpress.engine.prune.step import prune
from modelpress.spec.steps import Iterative, Prune
from tests.support.contexts import context
from tests.support.image_data import accuracy, digits, noise, normalised
from tests.support.tiny import tiny_network

LAYERS = ("0", "3", "7", "9")
TOTAL = 72 + 1152 + 8192 + 96  # weights of the tiny network with three classes
TRAINING = {"epochs": 4, "batch_size": 4, "learning_rate": 0.05, "precision": "fp32"}  # of 24 images: 24 steps


def gone(network: Network) -> int:
    return sum(int((network.module.get_parameter(f"{name}.weight") == 0).sum()) for name in LAYERS)


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[f"{name}.weight"].flatten() for name in LAYERS])


def test_against_the_paper_s_equations():
    """Least squares, y = (W * M) x: pruned weights stand still, their scores go on, and some of them come back."""
    draw = np.random.default_rng(0)
    inputs, targets, weight = draw.normal(size=(20, 6)), draw.normal(size=(20, 3)), draw.normal(size=(3, 6))
    removed = [0, 3, 6, 8, 9, 10, 11, 12] + [12] * 22

    latent, scores, mask = weight.copy(), np.zeros((3, 6)), np.ones((3, 6), dtype=bool)
    history = [mask]
    for count in removed:
        residual = inputs @ (latent * mask).T - targets
        gradient = residual.T @ inputs / 20
        scores -= gradient * latent
        latent -= 0.2 * gradient * mask
        mask = np.ones(18, dtype=bool)
        mask[np.argsort(scores, axis=None)[:count]] = False
        mask = mask.reshape(3, 6)
        history.append(mask)
    back = [bool((after & ~before).any()) for before, after in pairwise(history)]
    assert any(back), "nothing comes back, so that it would not be tested"

    layer = nn.Linear(6, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    weights = {"weight": layer.weight}
    masks, movement = Masks(layer, {"weight": torch.ones(3, 6, dtype=torch.bool)}), Movement()
    movement.watch(weights)
    stepper = torch.optim.SGD(layer.parameters(), lr=0.2)
    for step, count in enumerate(removed):
        stepper.zero_grad()
        ((layer(torch.from_numpy(inputs)) - torch.from_numpy(targets)).square().sum() / 40).backward()
        movement.gather()
        stepper.step()
        masks.apply()
        kept = keep_highest(movement(weights), count, {})
        movement.exchange(weights, kept)
        masks.update(kept)
        assert np.array_equal(masks.kept()["weight"].numpy(), history[step + 1])
    np.testing.assert_allclose(layer.weight.detach().numpy(), latent * mask, atol=1e-12)
    np.testing.assert_allclose(movement(weights)["weight"].numpy(), scores, atol=1e-12)


def test_what_was_kept_before_the_first_batch_holds_no_scores_yet():
    weights = {"weight": nn.Parameter(torch.tensor([1.0, -2.0]))}
    resumed = Movement()
    resumed.watch(weights)
    resumed.resume(Movement().snapshot())
    weights["weight"].grad = torch.tensor([3.0, 1.0])
    resumed.gather()
    assert resumed(weights)["weight"].tolist() == [-3.0, 2.0]


def test_the_first_to_go_are_those_that_move_towards_zero():
    """Weights that hardly move, and all images in each batch: every step adds the same - (dL/dW) W."""
    data = noise()
    network = tiny_network(classes=3, norm=False)
    before = {name: weight.detach().clone().requires_grad_() for name, weight in network.module.named_parameters()}
    outputs = torch.func.functional_call(network.module, before, normalised(data.train_images, data.statistics))
    F.cross_entropy(outputs, data.train_labels).backward()
    scores = flat({name: -weight.grad * weight.detach() for name, weight in before.items() if weight.grad is not None})
    spec = {
        "sparsity": 0.2,
        "criterion": "movement",
        "schedule": {"kind": "cubic", "begin": 0.5, "end": 1.0, "frequency": 100},
        "training": {**TRAINING, "batch_size": 24, "learning_rate": 1e-9, "weight_decay": 0.0},
    }
    result = prune(network, Prune.model_validate(spec), context(network, data)).network
    kept = flat(result.masks)
    assert int((~kept).sum()) == round(0.2 * TOTAL)
    assert scores[~kept].max() <= scores[kept].min() + 1e-7
    assert scores[~kept].max() < 0


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("schedule", [{"kind": "cubic", "frequency": 1}, {"kind": "iterative", "rounds": 3}])
def test_through_the_step_to_the_weight(schedule: dict[str, Any], scope: str):
    network = tiny_network(classes=3)
    uploaded = prune(network, Prune(sparsity=0.3, scope="layer"), context(network)).network
    zero = {name: ~mask for name, mask in uploaded.masks.items()}
    uploaded.masks = {}
    spec = {"sparsity": 0.8, "criterion": "movement", "scope": scope, "schedule": schedule}
    training = {**TRAINING, "gradient_clip": 1.0}
    result = prune(uploaded, Prune.model_validate({**spec, "training": training}), context(uploaded, noise())).network
    expected = round(0.8 * TOTAL)
    if scope == "layer":
        expected = sum(round(0.8 * size) for size in (72, 1152, 8192, 96))
    assert gone(result) == int((~flat(result.masks)).sum()) == expected
    assert not any(bool(result.module.get_parameter(name)[places].any()) for name, places in zero.items())


def test_every_round_comes_behind_a_part_of_the_training(monkeypatch: pytest.MonkeyPatch):
    schedule = Iterative(rounds=3, end=0.75)
    assert rounds(schedule, 8, trained_first=True) == {2: 1 / 3, 4: 2 / 3, 6: 1.0}
    assert rounds(schedule, 1, trained_first=True) == {1: 1.0}
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    network = tiny_network(classes=3)
    seen: list[TrainingProgress] = []
    spec = {"sparsity": 0.75, "criterion": "movement", "schedule": schedule, "training": {**TRAINING, "epochs": 1}}
    prune(network, Prune.model_validate(spec), context(network, noise(32), on_progress=seen.append))
    expected = [0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 0.75]  # after steps 1 to 8
    assert [progress.metrics["sparsity"] for progress in seen] == pytest.approx(expected, abs=1e-3)


def test_it_learns_what_to_keep_on_real_digits():
    data = digits()
    network = tiny_network(data.statistics)
    spec = {
        "sparsity": 0.9,
        "schedule": {"kind": "cubic", "begin": 0.2, "end": 0.7, "frequency": 5},
        "training": {"epochs": 4, "learning_rate": 0.05, "batch_size": 64, "precision": "fp32"},
    }
    learned, drawn = (
        prune(network, Prune.model_validate({**spec, "criterion": criterion}), context(network, data)).network
        for criterion in ("movement", "random")
    )
    assert accuracy(learned.module, data) > 0.8
    assert accuracy(drawn.module, data) < 0.6
