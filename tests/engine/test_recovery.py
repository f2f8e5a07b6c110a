"""What a step can do within its recovery."""

from __future__ import annotations

import pytest
import torch

from modelpress.engine.prune.masks import Masks
from modelpress.engine.recovery import recover
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.tiny import tiny_network


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_step_sees_the_gradients_of_masked_weights_and_may_change_the_masks(clip: float | None):
    network = tiny_network(classes=3)
    weight = network.module.get_parameter("7.weight")
    start = weight.detach().clone()
    nothing, everything = torch.zeros_like(weight, dtype=torch.bool), torch.ones_like(weight, dtype=torch.bool)
    masks = Masks(network.module, {"7.weight": nothing})
    seen: list[tuple[int, int, bool]] = []

    def after_backward(step: int, steps: int) -> None:
        assert weight.grad is not None
        seen.append((step, steps, bool(weight.grad.any())))
        masks.update({"7.weight": everything if step < 3 else nothing})

    training = Recovery(epochs=1, batch_size=8, gradient_clip=clip, precision="fp32")
    moved: list[bool] = []
    recover(
        network,
        training,
        context(network, noise()),
        masks=masks,
        after_backward=after_backward,
        after_step=lambda *_: moved.append(bool(weight.any())),
    )
    assert seen == [(1, 3, True), (2, 3, True), (3, 3, True)]
    # What has come at a step is moved by that step's update.
    assert moved[:2] == [True, True]
    assert not bool(weight.any())
    assert bool(start.any())
    assert torch.equal(network.masks["7.weight"], nothing)
