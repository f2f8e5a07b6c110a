"""The teacher is asked once for each image that comes back, and says the same as when it is asked anew."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.distill.cache import CachedTeacher
from modelpress.engine.distill.decoupled import DecoupledLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.distill.logits import LogitLoss
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.loss import Loss, Origin
from modelpress.engine.training import train
from modelpress.spec.steps.distillation_loss import DistillationLoss
from modelpress.spec.training import Augmentation, Training
from tests.support.image_data import noise
from tests.support.tiny import tiny_module, tiny_network

CPU = torch.device("cpu")


class Counting(nn.Module):
    """A teacher that counts the images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_network(classes=3, seed=7).module
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        logits: Tensor = self.inner(images)
        return logits


def learnt(loss: Loss, augmentation: Augmentation) -> nn.Module:
    torch.manual_seed(0)
    module = tiny_module(classes=3)
    data = noise(20)
    training = Training(epochs=3, batch_size=8, learning_rate=0.01, augmentation=augmentation, precision="fp32")
    train(module, data, data.statistics, training, loss=loss, seed=0, device=CPU)
    return module


@pytest.mark.parametrize("kind", ["hinton", "dkd", "logits"])
def test_cached_trains_as_uncached(kind: str):
    def loss(teacher: nn.Module) -> HintonLoss | DecoupledLoss | LogitLoss:
        if kind == "hinton":
            return HintonLoss(teacher, temperature=4.0, alpha=0.9)
        if kind == "dkd":
            return DecoupledLoss(teacher, temperature=4.0, alpha=1.0, beta=2.0, label_weight=1.0)
        return LogitLoss(teacher, label_weight=0.5)

    cached, asked = Counting(), Counting()
    uncached = loss(asked)
    uncached.follow = lambda origin: None
    one, other = learnt(loss(cached), Augmentation()), learnt(uncached, Augmentation())
    assert (cached.seen, asked.seen) == (20, 60)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


CHANGES: list[dict[str, object]] = [{"crop_padding": 1}, {"cutout": 2}, {"random_erasing": 0.1}]


@pytest.mark.parametrize("change", [*CHANGES, {"mixup": 0.2}])
def test_images_changed_at_random_are_asked_anew(change: dict[str, object]):
    teacher = Counting()
    learnt(HintonLoss(teacher, temperature=4.0, alpha=0.9), Augmentation.model_validate(change))
    assert teacher.seen == 60


def test_mirrored_images_are_asked_once_each():
    teacher = Counting()
    learnt(HintonLoss(teacher, temperature=4.0, alpha=0.9), Augmentation(horizontal_flip=True))
    assert 20 < teacher.seen <= 40


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["hinton", "dkd", "logits"])
def test_a_teacher_of_plain_images_is_asked_once(kind: str, change: dict[str, object]):
    teacher, tiny = Counting(), tiny_module(classes=3)
    loss: DistillationLoss = TypeAdapter(DistillationLoss).validate_python({"kind": kind})
    with distillation_loss(loss, teacher, tiny, label_smoothing=0.0, plain=True) as plain:
        learnt(plain, Augmentation.model_validate(change))
    assert teacher.seen == 20


def origin(places: list[int], images: Tensor, *, unchanged: bool = True) -> Origin:
    return Origin(torch.tensor(places), len(images), images.__getitem__, unchanged)


@pytest.mark.parametrize("plain", [False, True])
def test_logits_go_to_their_images(plain: bool):
    teacher = Counting()
    cached = CachedTeacher(teacher, plain=plain)
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        expected = teacher.inner(images)
    for order in ([3, 1], [0, 3], [4, 2], [2, 0, 1, 3, 4]):
        cached.follow(origin(order, images, unchanged=not plain))
        shown = torch.zeros(len(order), 1, 8, 8) if plain else images[order]
        torch.testing.assert_close(cached(shown), expected[order])
    assert teacher.seen == 5


def test_what_was_said_is_known_to_the_next_one():
    first, second = Counting(), Counting()
    one, other = CachedTeacher(first), CachedTeacher(second)
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one.follow(origin([4, 0, 2], images))
    said = one(images[[4, 0, 2]])
    other.resume(one.snapshot())
    other.follow(origin([2, 4], images))
    assert torch.equal(other(images[[2, 4]]), said[[2, 0]])
    assert second.seen == 0
    other.follow(origin([2, 1], images))
    other(images[[2, 1]])
    assert second.seen == 1
    one.follow(origin([1], images))
    one(images[[1]])
    assert first.seen == 4  # what the other one learned since is its own


@pytest.mark.parametrize(
    "tensors",
    [
        {"logits": torch.zeros(6), "known": torch.zeros(6, dtype=torch.bool)},
        {"logits": torch.zeros(6, 3), "known": torch.zeros(5, dtype=torch.bool)},
        {"logits": torch.zeros(6, 3), "known": torch.zeros(6)},
    ],
    ids=["vector", "counts", "type"],
)
def test_what_is_no_answer_is_refused(tensors: dict[str, Tensor]):
    with pytest.raises(UnusableCheckpoint):
        CachedTeacher(Counting()).resume(Snapshot(tensors))
