"""What a step can do within its recovery, and the original as teacher of pixels that are normalised otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelpress.engine.network import Network
from modelpress.engine.prune.masks import Masks
from modelpress.engine.recovery import recover, teacher_of
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_network

OWN = Preprocessing(mean=(0.5,), std=(0.25,))
OTHER = Preprocessing(mean=(0.1,), std=(2.0,))


def logits(network: Network, images: torch.Tensor) -> np.ndarray:
    """What a network says of images normalised as it wants them, by hand."""
    assert network.description.preprocessing is not None
    with torch.no_grad():
        return network.module(normalised(images, network.description.preprocessing)).double().numpy()


def test_the_teacher_is_given_pixels_as_it_was_trained_on():
    original, network = tiny_network(OWN), tiny_network(OTHER, seed=1)
    images = noise(8).train_images
    teacher = teacher_of(network, context(original))
    torch.testing.assert_close(
        teacher(normalised(images, OTHER)).double().numpy(), logits(original, images), rtol=1e-4, atol=1e-5
    )
    # The original itself is as it was.
    assert not np.allclose(original.module(normalised(images, OTHER)).detach().numpy(), logits(original, images))


def test_a_teacher_of_the_same_pixels_is_the_original_to_the_bit():
    original = tiny_network(OWN)
    images = normalised(noise(8).train_images, OWN)
    with torch.no_grad():
        assert torch.equal(teacher_of(tiny_network(OWN, seed=1), context(original))(images), original.module(images))


def test_a_training_compares_what_both_say_of_the_same_image():
    """KL(original || network) of the 24 images, computed by hand: no step is long enough to change it."""
    original, network = tiny_network(OWN, norm=False, classes=3), tiny_network(OTHER, norm=False, classes=3)
    data = noise(24)
    training = Recovery(
        epochs=1,
        batch_size=24,
        learning_rate=1e-12,
        weight_decay=0,
        precision="fp32",
        teacher="original",
        temperature=1.0,
        alpha=1.0,
    )
    taught, said = (logits(one, data.train_images) for one in (original, network))
    taught, said = (one - np.log(np.exp(one).sum(1, keepdims=True)) for one in (taught, said))
    expected = float((np.exp(taught) * (taught - said)).sum(1).mean())
    assert expected > 1e-4
    assert recover(network, training, context(original, data)).final_loss == pytest.approx(expected, rel=1e-3)


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
