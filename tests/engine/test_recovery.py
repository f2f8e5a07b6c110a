"""What holds in a step's recovery and behind it: masks, grids, averages, and the teacher's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.finetune.step import finetune
from modelpress.engine.measure import evaluate
from modelpress.engine.network import Network
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.engine.recovery import recover, teacher_of
from modelpress.engine.step import StepResult
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Cubic, Finetune, Iterative, Prune, Quantize, RigL
from modelpress.spec.training import Augmentation, Recovery
from tests.support.contexts import context
from tests.support.image_data import digits, noise, normalised
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


SEED = 5
TRAINING = Recovery(
    epochs=5,
    batch_size=64,
    learning_rate=0.05,
    precision="fp32",
    gradient_clip=5.0,
    ema=0.95,
    validation=0.1,
    keep_best=True,
)


def delivered_accuracy(result: StepResult, data: ImageData) -> float:
    """On the images that were kept apart, of the network that the step gives."""
    _, images, labels = data.keep_apart(TRAINING.validation)
    return evaluate(result.network.module, images, labels, data.statistics).top1


def zeros_are_where_masks_say(network: Network) -> bool:
    return all(torch.equal(network.module.get_parameter(name) != 0, mask) for name, mask in network.masks.items())


@pytest.mark.parametrize(
    ("schedule", "complete"),
    [
        (Cubic(begin=0.0, end=0.6, frequency=3), 3),
        (Iterative(rounds=3, end=0.5), 3),
        (RigL(frequency=3, end=0.5), 3),
    ],
)
def test_pruning_leaves_the_best_average_under_the_final_masks(schedule: Cubic | Iterative | RigL, complete: int):
    data = digits()
    network = tiny_network(data.statistics)
    result = prune(
        network, Prune(sparsity=0.9, schedule=schedule, training=TRAINING), context(network, data, seed=SEED)
    )
    assert zeros_are_where_masks_say(result.network)
    masks = result.network.masks.values()
    assert sum(int((~mask).sum()) for mask in masks) == round(0.9 * sum(mask.numel() for mask in masks))
    summary = result.training
    assert summary is not None
    assert summary.best_epoch is not None
    assert summary.best_epoch >= complete
    assert summary.best_validation_accuracy == delivered_accuracy(result, data)
    assert delivered_accuracy(result, data) > 0.5


@pytest.mark.parametrize("scheme", ["uniform", "codebook"])
def test_quantized_averages_are_on_their_grids(scheme: str):
    data = digits()
    network = tiny_network(data.statistics)
    step = Quantize.model_validate({"scheme": scheme, "bits": 3, "training": TRAINING})
    result = quantize(network, step, context(network, data, seed=SEED))
    for name, grid in result.network.grids.items():
        weight = result.network.module.get_parameter(name)
        assert torch.equal(weight, grid.nearest(weight))
    summary = result.training
    assert summary is not None
    assert summary.best_epoch in (4, 5)  # grids move for three quarters of the training
    assert summary.best_validation_accuracy == delivered_accuracy(result, data)
    assert delivered_accuracy(result, data) > 0.5


def test_masks_and_grids_hold_together_on_an_average():
    data = digits()
    network = tiny_network(data.statistics)
    pruned = prune(network, Prune(sparsity=0.6), context(network)).network
    step = Quantize(bits=4, training=TRAINING.model_copy(update={"validation": 0.0, "keep_best": False}))
    result = quantize(pruned, step, context(network, data, seed=SEED)).network
    for name, mask in pruned.masks.items():
        weight, grid = result.module.get_parameter(name), result.grids[name]
        assert bool((weight[~mask] == 0).all())
        assert torch.equal(weight, grid.nearest(weight))


@pytest.mark.parametrize("teacher", [None, "original"])
def test_everything_at_once_gives_the_same_for_the_same_seed(teacher: str | None):
    data = digits()
    data.train_labels[::3] = -1
    network = tiny_network(data.statistics)
    training = TRAINING.model_validate(
        {
            **TRAINING.model_dump(),
            "epochs": 2,
            "batch_size": 128,
            "patience": 1,
            "label_smoothing": 0.1,
            "teacher": teacher,
            "augmentation": Augmentation(crop_padding=1, cutout=2, random_erasing=0.5, mixup=0.4),
        }
    )
    results = [finetune(network, Finetune(training=training), context(network, data, seed=seed)) for seed in (1, 1, 2)]
    states = [result.network.module.state_dict() for result in results]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    summaries = [result.training for result in results]
    assert summaries[0] is not None
    assert summaries[1] is not None
    assert summaries[0].best_validation_accuracy == summaries[1].best_validation_accuracy
    assert all(bool(tensor.isfinite().all()) for tensor in states[0].values())
