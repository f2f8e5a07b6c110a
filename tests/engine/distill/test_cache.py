"""The teacher is asked once for each image that comes back, and says the same as when it is asked anew."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from modelpress.engine import journal
from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.distill import cache
from modelpress.engine.distill.cache import Asking, CachedTeacher, KeptAnswers
from modelpress.engine.distill.decoupled import DecoupledLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.distill.logits import LogitLoss
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.loss import Loss, Origin
from modelpress.engine.training import train
from modelpress.spec.steps.distillation_loss import DistillationLoss
from modelpress.spec.training import Augmentation, ProgressiveResizing, Training
from tests.support.image_data import noise
from tests.support.tiny import tiny_module, tiny_network

CPU = torch.device("cpu")
FP32 = Arithmetic("fp32", channels_last=True)


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
    uncached.prepare = lambda everything, arithmetic: iter(())
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
    assert teacher.seen == 40


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["hinton", "dkd", "logits"])
def test_a_teacher_of_plain_images_is_asked_once(kind: str, change: dict[str, object]):
    teacher, tiny = Counting(), tiny_module(classes=3)
    loss: DistillationLoss = TypeAdapter(DistillationLoss).validate_python({"kind": kind})
    with distillation_loss(loss, teacher, tiny, label_smoothing=0.0, asking=Asking(plain=True)) as plain:
        learnt(plain, Augmentation.model_validate(change))
    assert teacher.seen == 20


def origin(places: list[int], images: Tensor, *, unchanged: bool = True) -> Origin:
    return Origin(torch.tensor(places), len(images), images.__getitem__, unchanged)


def prepared(cached: CachedTeacher, images: Tensor, *, unchanged: bool = True, arithmetic: Arithmetic = FP32) -> int:
    """Have it answer for all; how many chunks that took."""
    everything = origin([*range(len(images))], images, unchanged=unchanged)
    return len([*cached.prepare(everything, arithmetic)])


@pytest.mark.parametrize("plain", [False, True])
def test_logits_go_to_their_images(plain: bool):
    teacher = Counting()
    cached = CachedTeacher(teacher, Asking(plain=plain))
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        expected = teacher.inner(images)
    prepared(cached, images, unchanged=not plain)
    for order in ([3, 1], [0, 3], [4, 2], [2, 0, 1, 3, 4]):
        cached.follow(origin(order, images, unchanged=not plain))
        torch.testing.assert_close(cached(torch.zeros(len(order), 1, 8, 8)), expected[order])
    assert teacher.seen == 5


@pytest.mark.parametrize("plain", [False, True])
def test_where_few_are_asked_about_nobody_is_asked_about_all(plain: bool):
    """In one epoch of images that may be mirrored each is seen in one form of two."""
    teacher = Counting()
    augmentation = Augmentation(horizontal_flip=True, crop_padding=int(plain))
    module, data = tiny_module(classes=3), noise(20)
    training = Training(epochs=1, batch_size=8, augmentation=augmentation, precision="fp32")
    loss = HintonLoss(teacher, temperature=4.0, alpha=0.9, asking=Asking(plain=plain))
    train(module, data, data.statistics, training, loss=loss, seed=0, device=CPU)
    assert teacher.seen == 20


class Sizes(Counting):
    """One that remembers the sizes of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.add(tuple(images.shape[2:]))
        logits: Tensor = super().forward(images)
        return logits


@pytest.mark.parametrize(
    "few", [{"augmentation": Augmentation(horizontal_flip=True)}, {"epoch_share": 0.5}, {"epochs": 2}]
)
def test_a_teacher_of_plain_images_sees_them_in_full_size(few: dict[str, Any]):
    """Also where it is not asked about all before, as in a training of fewer images than there are."""
    teacher, data = Sizes(), noise(20)
    student = nn.Sequential(nn.AdaptiveAvgPool2d(8), tiny_module(classes=3))
    training = Training(
        **{"epochs": 1, "batch_size": 8, "precision": "fp32", "progressive_resizing": ProgressiveResizing()} | few
    )
    loss = HintonLoss(teacher, temperature=4.0, alpha=0.9, asking=Asking(plain=True))
    train(student, data, data.statistics, training, loss=loss, seed=0, device=CPU)
    assert teacher.sizes == {(8, 8)}


def test_a_teacher_without_a_say_is_not_asked():
    teacher = Counting()
    learnt(HintonLoss(teacher, temperature=4.0, alpha=0.0), Augmentation())
    assert teacher.seen == 0


def test_what_was_said_is_known_to_the_next_one():
    first, second = Counting(), Counting()
    images = torch.randn(600, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, broken_off = CachedTeacher(first), CachedTeacher(first)
    assert prepared(whole, images) == 3
    chunks = broken_off.prepare(origin([*range(600)], images), FP32)
    assert next(chunks) == pytest.approx(256 / 600)
    other = CachedTeacher(second)
    other.resume(broken_off.snapshot())
    assert prepared(other, images) == 2
    assert second.seen == 600 - 256
    for teacher in (whole, other):
        teacher.follow(origin([2, 599, 300], images))
    assert torch.equal(other(images[:3]), whole(images[:3]))  # to the last bit
    other = CachedTeacher(second)
    other.resume(whole.snapshot())
    assert prepared(other, images) == 0


def test_the_answers_serve_all_steps_of_a_job():
    teacher, kept = Counting(), KeptAnswers()
    images = torch.randn(300, 1, 8, 8)
    assert prepared(CachedTeacher(teacher, Asking(kept=kept)), images) == 2
    again = CachedTeacher(teacher, Asking(plain=True, kept=kept))
    assert prepared(again, images, unchanged=False) == 0
    again.follow(origin([7], images, unchanged=False))
    torch.testing.assert_close(again(torch.zeros(1, 1, 8, 8)), teacher.inner(images[7:8]))
    # Others, or computed in another way.
    assert prepared(CachedTeacher(teacher, Asking(kept=kept, images="others")), images) == 2
    assert prepared(CachedTeacher(teacher, Asking(kept=kept)), images, arithmetic=Arithmetic("bf16", False)) == 2
    assert prepared(CachedTeacher(teacher, Asking(kept=kept)), images[:299]) == 2
    # A process that shares the training is not sent what belongs to others.
    assert len(pickle.dumps(kept)) < 200


def test_answers_beyond_all_memory_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "_MOST_KEPT", 14)
    teacher = Counting()
    cached = CachedTeacher(teacher)
    images = torch.randn(5, 1, 8, 8)
    assert prepared(cached, images) == 0
    cached.follow(origin([3, 1], images))
    torch.testing.assert_close(cached(images[[3, 1]]), teacher.inner(images[[3, 1]]))


def test_a_training_says_how_far_the_answers_are_and_keeps_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "_CHUNK", 8)
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    told: list[float] = []
    data = noise(20)
    train(
        tiny_module(classes=3),
        data,
        data.statistics,
        Training(epochs=1, precision="fp32"),
        loss=HintonLoss(Counting(), temperature=4.0, alpha=0.9),
        seed=0,
        device=CPU,
        on_progress=lambda progress: told.append(progress.metrics.get("teacher_answers", -1.0)),
    )
    assert told[:3] == [8 / 20, 16 / 20, 1.0]
    assert set(told[3:]) == {-1.0}


@pytest.mark.parametrize(
    ("tensor", "known"),
    [
        (torch.zeros(6), 6),
        (torch.zeros(6, 3), 7),
        (torch.zeros(6, 3), -1),
        (torch.zeros(6, 3), None),
        (torch.zeros(6, 3, dtype=torch.int64), 6),
    ],
    ids=["vector", "too many", "less than none", "nothing", "type"],
)
def test_what_is_no_answer_is_refused(tensor: Tensor, known: int | None):
    with pytest.raises(UnusableCheckpoint):
        CachedTeacher(Counting()).resume(Snapshot({"logits": tensor}, known))
