"""Channels go before and after every other kind of step."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from modelpress.engine.network import rebuild
from modelpress.engine.steps import STEPS
from modelpress.spec.steps import Step
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network

STEP: TypeAdapter[Step] = TypeAdapter(Step)  # type: ignore[type-arg, valid-type]  # an annotated union
BRIEF = {"epochs": 1, "batch_size": 8, "precision": "fp32"}
NARROW = {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.25}, "training": BRIEF}
OTHERS = {
    "prune": {"kind": "prune", "sparsity": 0.5, "training": BRIEF},
    "factorize": {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.2}},
    "quantize": {"kind": "quantize", "bits": 4, "training": BRIEF},
    "distill": {"kind": "distill", "student": {"architecture": "snn_1k"}, "training": BRIEF},
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("kind", OTHERS)
def test_in_any_order(kind: str, first: bool) -> None:
    original = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    data = noise(8, size=32, heldout=2)
    current = original
    for step in (NARROW, OTHERS[kind]) if first else (OTHERS[kind], NARROW):
        parsed = STEP.validate_python(step)
        current = STEPS[parsed.kind](current, parsed, context(original, data)).network
        assert not current.module.training
        for name, mask in current.masks.items():
            weight = current.module.get_parameter(name)
            assert mask.shape == weight.shape
            assert not bool(weight[~mask].any())
        for name, grid in current.grids.items():
            weight = current.module.get_parameter(name).detach()
            assert torch.equal(grid.nearest(weight), weight)
    again = rebuild(current.description).eval()
    again.load_state_dict(current.module.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), current.module(images))
