"""Steps compose in any order, and what one promised the next ones keep."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from modelpress.engine.network import Network, rebuild
from modelpress.engine.steps import STEPS
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.method import METHODS
from modelpress.spec.steps import Finetune, Step
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import accuracy, digits, noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

STEP: TypeAdapter[Step] = TypeAdapter(Step)  # type: ignore[type-arg, valid-type]  # an annotated union
BRIEF = {"epochs": 1, "batch_size": 8, "precision": "fp32"}
RECIPES = {
    "prune": {"kind": "prune", "sparsity": 0.5, "training": {**BRIEF, "teacher": "original"}},
    "factorize": {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.2}, "training": BRIEF},
    "distill": {"kind": "distill", "student": {"architecture": "snn_1k"}, "training": BRIEF},
    "quantize": {"kind": "quantize", "bits": 4, "training": BRIEF},
    "finetune": {"kind": "finetune", "training": BRIEF},
}


def original_of() -> Network:
    original = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    original.description = original.description.model_copy(
        update={"preprocessing": noise(8, size=32, heldout=2).statistics}
    )
    return original


def test_each_method_of_the_spec_is_carried_out():
    assert set(STEPS) == set(METHODS)


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "prune", "sparsity": 0.5},
        {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.2}},
        {"kind": "quantize"},
        {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.1}},
    ],
    ids=lambda step: step["kind"],
)
def test_layers_are_chosen_by_type(step: dict[str, Any]):
    original = original_of()
    linear = {name for name, layer in original.module.named_modules() if isinstance(layer, torch.nn.Linear)}
    chosen = STEP.validate_python({**step, "layers": {"types": ["Linear"]}})
    result = STEPS[chosen.kind](original, chosen, context(original))
    assert result.layers
    assert {layer.name for layer in (*result.layers, *result.skipped)} <= linear
    wrong = STEP.validate_python({**step, "layers": {"types": ["Conv1d"]}})
    with pytest.raises(IncompatibleSpec, match="no layer is of type Conv1d; the types are Conv2d, Linear"):
        STEPS[wrong.kind](original, wrong, context(original))


def _orders() -> list[tuple[str, ...]]:
    """Three steps each, in which every step follows every other somewhere."""
    found, missing = [], set(itertools.permutations(RECIPES, 2))
    for new in (2, 1):
        for order in itertools.permutations(RECIPES, 3):
            if len(missing & set(itertools.pairwise(order))) == new:
                found.append(order)
                missing -= set(itertools.pairwise(order))
    return found


@pytest.mark.parametrize("order", _orders(), ids="-".join)
def test_in_any_order(order: tuple[str, ...]):
    original = original_of()
    before = copy.deepcopy(original.module.state_dict())
    data = noise(8, size=32, heldout=2)
    current = original
    for kind in order:
        current = STEPS[kind](current, STEP.validate_python(RECIPES[kind]), context(original, data)).network
        assert not current.module.training
        for name, mask in current.masks.items():
            weight = current.module.get_parameter(name)
            assert mask.shape == weight.shape
            assert not bool(weight[~mask].any())
        for name, grid in current.grids.items():
            weight = current.module.get_parameter(name)
            assert torch.equal(grid.nearest(weight), weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())
    again = rebuild(current.description).eval()
    again.load_state_dict(current.module.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), current.module(images))


def test_the_whole_story_on_real_digits():
    """Train, prune half of it gradually under the original's eyes, fine-tune: still good, and still half."""
    data = digits()
    network = tiny_network(data.statistics)
    training = {"epochs": 3, "learning_rate": 0.05, "batch_size": 64, "precision": "fp32"}

    def run(current: Network, original: Network, step: dict[str, object]) -> Network:
        parsed = STEP.validate_python(step)
        return STEPS[parsed.kind](current, parsed, context(original, data)).network

    original = run(network, network, {"kind": "finetune", "training": training})
    pruned = run(
        original,
        original,
        {
            "kind": "prune",
            "sparsity": 0.8,
            "schedule": {"kind": "cubic", "frequency": 4},
            "training": {**training, "epochs": 2, "learning_rate": 0.02, "teacher": "original"},
        },
    )
    tuned = run(pruned, original, {"kind": "finetune", "training": {**training, "epochs": 1, "learning_rate": 0.01}})
    assert accuracy(original.module, data) > 0.9
    assert accuracy(tuned.module, data) > 0.88
    weights = [tuned.module.get_parameter(name) for name in tuned.masks]
    assert sum(int((weight == 0).sum()) for weight in weights) == round(0.8 * sum(weight.numel() for weight in weights))
    assert all(torch.equal(tuned.masks[name], pruned.masks[name]) for name in pruned.masks)


def test_preprocessing_is_the_data_s_where_the_model_says_nothing():
    data = digits()
    step = Finetune(training=Recovery(epochs=1, batch_size=64, precision="fp32"))
    silent, spoken = tiny_network(), tiny_network(data.statistics)
    results = [STEPS["finetune"](one, step, context(one, data)).network.module.state_dict() for one in (silent, spoken)]
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_finetuning_without_data():
    original = original_of()
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        STEPS["finetune"](original, Finetune(training=Recovery()), context(original))
