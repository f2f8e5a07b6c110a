from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine import journal
from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.loss import Loss
from modelpress.engine.training import train
from modelpress.spec.failure import Diverged, IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation, Training
from tests.support.image_data import accuracy, digits, noise, normalised
from tests.support.tiny import tiny_module

CPU = torch.device("cpu")


def fresh(seed: int = 0, **options: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tiny_module(classes=options.pop("classes", 10), **options)


class Written(Loss):
    """A loss that a test writes out, of the outputs alone."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        return self._function(outputs)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_learns_real_digits():
    data = digits()
    module = fresh()
    before = accuracy(module, data)
    summary = train(
        module,
        data,
        data.statistics,
        Training(epochs=4, learning_rate=0.05, batch_size=64, precision="fp32"),
        loss=LabelLoss(),
        seed=0,
        device=CPU,
    )
    assert before < 0.3
    assert accuracy(module, data) > 0.9
    assert summary.steps == 4 * math.ceil(len(data.train_labels) / 64)
    assert summary.final_loss < 0.3
    assert (summary.precision, summary.device) == ("fp32", "cpu")
    assert not module.training


def test_learns_digits_in_bf16_with_adamw_and_augmentation():
    data = digits()
    module = fresh()
    training = Training(
        epochs=6,
        learning_rate=0.005,
        batch_size=64,
        optimizer="adamw",
        schedule="one_cycle",
        precision="bf16",
        augmentation=Augmentation(crop_padding=1),
    )
    summary = train(module, data, data.statistics, training, loss=LabelLoss(0.1), seed=0, device=CPU)
    assert summary.precision == "bf16"
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert accuracy(module, data) > 0.9


def test_learns_digits_from_mixtures_with_holes_and_averages():
    data = digits()
    module = fresh()
    training = Training(
        epochs=8,
        learning_rate=0.05,
        batch_size=64,
        precision="fp32",
        ema=0.98,
        augmentation=Augmentation(random_erasing=0.5, mixup=0.4),
    )
    train(module, data, data.statistics, training, loss=LabelLoss(), seed=0, device=CPU)
    assert accuracy(module, data) > 0.9


@pytest.mark.parametrize(("share", "validation", "steps"), [(0.5, 0.0, 3 * 5), (0.22, 0.0, 3 * 2), (0.5, 0.5, 3 * 3)])
def test_an_epoch_may_have_a_part_of_the_images(share: float, validation: float, steps: int):
    """Of 40, or of the 20 that a validation leaves; the ninth of the second case is one that batch norm cannot take."""
    training = Training(epochs=3, batch_size=4, epoch_share=share, validation=validation)
    summary = train(fresh(), noise(40), noise(40).statistics, training, loss=LabelLoss(), seed=0, device=CPU)
    assert (summary.epochs, summary.epoch_share, summary.steps) == (3, share, steps)


def test_same_seed_same_weights_other_seed_others():
    data = noise(40, classes=10)
    training = Training(epochs=2, batch_size=16, augmentation=Augmentation(horizontal_flip=True, crop_padding=2))
    results = []
    for seed in (3, 3, 4):
        module = nn.Sequential(fresh(), nn.Dropout(0.2))
        train(module, data, data.statistics, training, loss=LabelLoss(), seed=seed, device=CPU)
        results.append(weights(module))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not all(torch.equal(results[0][name], results[2][name]) for name in results[0])


def test_random_state_and_flags_are_put_back():
    data = noise()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    train(fresh(classes=3), data, data.statistics, Training(epochs=1), loss=LabelLoss(), seed=1, device=CPU)
    assert torch.equal(torch.rand(3), expected)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == flags


def test_equals_nesterov_momentum_written_out():
    """Whole-batch steps, so that the order does not matter, against Sutskever et al.'s update in plain tensors."""
    data = noise(24)
    module = fresh(norm=False, classes=3)
    reference = copy.deepcopy(module)
    training = Training(
        epochs=5,
        batch_size=24,
        learning_rate=0.05,
        schedule="constant",
        momentum=0.8,
        weight_decay=0.1,
        precision="fp32",
    )
    train(module, data, data.statistics, training, loss=LabelLoss(), seed=0, device=CPU)

    images = normalised(data.train_images, data.statistics)
    velocity = [torch.zeros_like(parameter) for parameter in reference.parameters()]
    for _ in range(5):
        logits = reference(images)
        loss = (logits.logsumexp(1) - logits.gather(1, data.train_labels[:, None])[:, 0]).mean()
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient, v in zip(reference.parameters(), gradients, velocity, strict=True):
                decayed = gradient + (0.1 * parameter if parameter.ndim > 1 else 0)
                v.mul_(0.8).add_(decayed)
                parameter.sub_(0.05 * (decayed + 0.8 * v))
    for mine, theirs in zip(module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_decay_acts_on_weights_alone():
    data = noise(24)
    module = fresh(classes=3)
    before = weights(module)
    training = Training(epochs=3, batch_size=24, learning_rate=0.5, schedule="constant", momentum=0.0, weight_decay=0.1)
    train(
        module, data, data.statistics, training, loss=Written(lambda outputs: 0.0 * outputs.sum()), seed=0, device=CPU
    )
    for name, parameter in module.named_parameters():
        factor = (1 - 0.5 * 0.1) ** 3 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_gradient_clip_bounds_the_whole_step():
    data = noise(24)
    module = fresh(classes=3)
    before = weights(module)
    training = Training(
        epochs=1,
        batch_size=24,
        learning_rate=1.0,
        schedule="constant",
        momentum=0.0,
        weight_decay=0.0,
        gradient_clip=0.01,
    )
    train(module, data, data.statistics, training, loss=LabelLoss(), seed=0, device=CPU)
    moved = sum(float((p.detach() - before[name]).square().sum()) for name, p in module.named_parameters())
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(("norm", "steps"), [(True, 2), (False, 3)])
def test_single_last_image_is_left_out_only_where_batch_norm_cannot_take_it(norm: bool, steps: int):
    data = noise(17)
    summary = train(
        fresh(norm=norm, classes=3),
        data,
        data.statistics,
        Training(epochs=1, batch_size=8),
        loss=LabelLoss(),
        seed=0,
        device=CPU,
    )
    assert summary.steps == steps


@pytest.mark.parametrize("few", ["batch_size", "epoch_share"])
def test_batches_of_one_with_batch_norm_are_refused(few: str):
    data = noise()
    training = Training(batch_size=1) if few == "batch_size" else Training(epoch_share=1 / len(data.train_labels))
    with pytest.raises(IncompatibleSpec, match=f"raise `{few}`"):
        train(fresh(classes=3), data, data.statistics, training, loss=LabelLoss(), seed=0, device=CPU)


@pytest.mark.parametrize("epochs", [1, 40])
def test_divergence_is_told_with_advice(epochs: int):
    """In the last step, after its loss was taken, or long before."""
    data = noise(24)

    def exploding(outputs: Tensor) -> Tensor:
        return outputs.sum() * 1e37  # finite at first, and ten times its gradient is not

    with pytest.raises(Diverged, match=r"lower `learning_rate` \(it is 10\), or set `gradient_clip`"):
        train(
            fresh(norm=False, classes=3),
            data,
            data.statistics,
            Training(epochs=epochs, learning_rate=10.0),
            loss=Written(exploding),
            seed=0,
            device=CPU,
        )


def test_progress_tells_epoch_loss_rate_and_speed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    data = noise(24)
    seen: list[TrainingProgress] = []
    steps: list[tuple[int, int]] = []
    train(
        fresh(classes=3),
        data,
        data.statistics,
        Training(epochs=2, batch_size=8, schedule="constant", learning_rate=0.25),
        loss=Written(lambda outputs: outputs.sum() * 0 + 3.0),
        seed=0,
        device=CPU,
        after_step=lambda step, total: steps.append((step, total)),
        on_progress=seen.append,
    )
    assert steps == [(step, 6) for step in range(1, 7)]
    assert [progress.fraction for progress in seen] == pytest.approx([step / 6 for step in range(1, 7)])
    assert [progress.epoch for progress in seen] == [1, 1, 1, 2, 2, 2]
    assert all(progress.metrics["loss"] == 3.0 for progress in seen)
    assert all(progress.metrics["learning_rate"] == 0.25 for progress in seen)
    assert all(progress.metrics["images_per_second"] > 0 for progress in seen)
    assert {progress.epochs for progress in seen} == {2}


def test_progress_tells_the_accuracy_of_the_batches_and_the_time_left(monkeypatch: pytest.MonkeyPatch):
    """A linear network that always says class 1: the accuracy is the share of that label."""
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    data = noise(24)
    module = nn.Sequential(nn.Flatten(), nn.Linear(data.train_images[0].numel(), 3))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    seen: list[TrainingProgress] = []
    train(
        module,
        data,
        data.statistics,
        Training(epochs=2, batch_size=24, weight_decay=0.0),
        loss=Written(lambda outputs: outputs.sum() * 0),
        seed=0,
        device=CPU,
        on_progress=seen.append,
    )
    share = float((data.train_labels == 1).float().mean())
    assert [progress.metrics["accuracy"] for progress in seen] == pytest.approx([share, share])
    assert [progress.metrics["step"] for progress in seen] == [1, 2]
    assert seen[0].metrics["seconds_left"] > 0
    assert seen[1].metrics["seconds_left"] == 0


def test_the_accuracy_of_mixtures_is_that_of_their_larger_parts(monkeypatch: pytest.MonkeyPatch):
    """Images as bright as their class is high; a network that reads it off the brightness is right on each larger part.

    Of classes 0 and 1, that is class 1 from the middle on.
    """
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    data = noise(24, classes=2)
    data.train_images[:] = (data.train_labels * 200).to(torch.uint8)[:, None, None, None]
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    preprocessing = Preprocessing(mean=(100 / 255,), std=(1.0,))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64))
        module[1].bias.zero_()
    seen: list[TrainingProgress] = []
    train(
        module,
        data,
        preprocessing,
        Training(epochs=1, batch_size=8, weight_decay=0.0, augmentation=Augmentation(mixup=1.0)),
        loss=Written(lambda outputs: outputs.sum() * 0),
        seed=0,
        device=CPU,
        on_progress=seen.append,
    )
    assert [progress.metrics["accuracy"] for progress in seen] == [1.0] * 3


class TwoHeads(nn.Module):
    """Gives a tuple in training mode, as Inception does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        self.auxiliary = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (self.body(images), self.auxiliary(images.flatten(1))) if self.training else self.body(images)


def test_auxiliary_heads_are_left_alone():
    data = noise(24)
    module = TwoHeads()
    before = weights(module)
    train(module, data, data.statistics, Training(epochs=1), loss=LabelLoss(), seed=0, device=CPU)
    assert torch.equal(module.auxiliary.weight, before["auxiliary.weight"])
    assert not torch.equal(module.body[1].weight, before["body.1.weight"])
