"""Batches in parts: the same gradients, the same training, by one process and by two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.accumulation import accumulate
from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.step import KeptStep
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.distill.hinton import HintonLoss, LabelLoss, frozen_teacher
from modelpress.engine.exhaustion import BatchTooLarge
from modelpress.engine.finetune.step import finetune
from modelpress.engine.loss import Loss
from modelpress.engine.ranks.leader import ALONE, Leader, Ranks
from modelpress.engine.training import train
from modelpress.spec.event import EngineEvent
from modelpress.spec.report import TrainingSummary
from modelpress.spec.steps import Finetune
from modelpress.spec.training import Augmentation, Recovery, Training
from tests.support.contexts import context
from tests.support.followers import CPU, leading
from tests.support.hungry import hungry
from tests.support.image_data import noise
from tests.support.tiny import tiny_module, tiny_network

# 41 images in batches of 8: the last one has a single image, of which there is no half.
DATA = noise(41)
TRAINING = Training(epochs=2, batch_size=8, learning_rate=0.05, gradient_clip=0.5, precision="fp32")
TAUGHT = Recovery(teacher="original", **TRAINING.model_dump())


def fresh(norm: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tiny_module(classes=3, norm=norm)


def run(module: nn.Module, loss: Loss, *, ranks: Ranks = ALONE, accumulation: int = 1) -> TrainingSummary:
    return train(
        module,
        DATA,
        DATA.statistics,
        TRAINING,
        loss=loss,
        seed=1,
        device=CPU,
        ranks=ranks,
        accumulation=accumulation,
    )


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("accumulation", "processes"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_few_labels_weigh_as_much_wherever_in_a_batch_they_lie(
    tmp_path: Path, accumulation: int, processes: int, mixup: float
):
    """Without it, the half that has no label would lose the weight that it has in the whole batch's mean."""
    labels = DATA.train_labels.clone()
    labels[::3], labels[1::3] = UNLABELLED, UNLABELLED
    data = replace(DATA, train_labels=labels)
    training = TRAINING.model_copy(update={"augmentation": Augmentation(mixup=mixup)})
    found = []
    for parts, number in ((1, 1), (accumulation, processes)):
        module = fresh()
        loss = HintonLoss(frozen_teacher(fresh(), CPU), temperature=2.0, alpha=0.5)
        with leading(tmp_path) if number > 1 else nullcontext(ALONE) as ranks:
            train(
                module, data, data.statistics, training, loss=loss, seed=1, device=CPU, ranks=ranks, accumulation=parts
            )
        found.append(module)
    assert_same(*found)


@pytest.mark.parametrize(("count", "parts"), [(8, 2), (7, 2), (7, 3), (1, 2)])
def test_gradients_and_figures_are_those_of_the_whole_batch(count: int, parts: int):
    images, labels = torch.randn(count, 1, 8, 8), torch.arange(count) % 3
    found: list[tuple[Tensor, list[Tensor]]] = []
    for accumulation in (1, parts):
        module, largest = fresh().train(), 0

        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal largest
            largest = max(largest, len(inputs[0]))

        module.register_forward_pre_hook(look)
        arithmetic = Arithmetic("fp32", channels_last=True, accumulation=accumulation)
        figures = accumulate(module, images, labels, LabelLoss(0.1), arithmetic, None, 1)
        found.append((figures, [parameter.grad for parameter in module.parameters() if parameter.grad is not None]))
        assert largest == -(-count // min(accumulation, count))
    (figures, gradients), (in_parts, added) = found
    torch.testing.assert_close(in_parts, figures, rtol=1e-5, atol=1e-6)
    assert len(added) == len(gradients) == 8
    for one, other in zip(gradients, added, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-7)


def test_a_part_has_as_many_images_as_batch_norm_needs():
    sizes = []
    module = fresh(norm=True).train()
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    arithmetic = Arithmetic("fp32", channels_last=True, accumulation=2)
    accumulate(module, torch.randn(3, 1, 8, 8), torch.arange(3), LabelLoss(), arithmetic, None, 2)
    assert sizes == [3]


def test_a_training_in_halves_is_that_of_whole_batches():
    original, rates = fresh(), []
    results = []
    for accumulation in (1, 2):
        module = fresh()
        with torch.no_grad():
            module.get_parameter("9.bias").add_(1.0)
        # A teacher that is asked by the images' places, in each half.
        loss = HintonLoss(frozen_teacher(original, CPU), temperature=2.0, alpha=0.5)
        summary = run(module, loss, accumulation=accumulation)
        results.append((module, summary))
        rates.append(summary.final_loss)
    (whole, told), (halves, told_of_halves) = results
    assert_same(whole, halves)
    assert (told.accumulation, told_of_halves.accumulation) == (1, 2)
    assert (told.steps, told.epochs) == (told_of_halves.steps, told_of_halves.epochs) == (12, 2)
    assert rates[0] == pytest.approx(rates[1], rel=1e-4)


class Killed(BaseException):
    """As if the process ended."""


def test_a_training_that_goes_on_stays_in_halves(tmp_path: Path):
    original = tiny_network(DATA.statistics, classes=3)
    step = Finetune(training=Recovery(**TRAINING.model_dump()))

    def attempt(folder: str, accumulation: int, until: int | None = None) -> Any:
        kept = 0

        def emit(_: EngineEvent) -> None:
            nonlocal kept
            kept += 1
            if kept == until:
                raise Killed

        (tmp_path / folder).mkdir(exist_ok=True)
        checkpoints = KeptStep(CheckpointFolder(tmp_path / folder, "task", emit), 0, 0.0, clock=lambda: 0.0)
        given = replace(context(original, DATA, seed=5), checkpoints=checkpoints, accumulation=accumulation)
        torch.manual_seed(5)
        return finetune(copy.deepcopy(original), step, given)

    whole = attempt("whole", 2)
    with pytest.raises(Killed):
        attempt("broken off", 2, until=4)
    resumed = attempt("broken off", 1)  # the next attempt has not run out of memory yet
    assert resumed.training.accumulation == 2
    for name, tensor in whole.network.module.state_dict().items():
        assert torch.equal(resumed.network.module.state_dict()[name], tensor), name


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    with leading(tmp_path_factory.mktemp("ranks")) as leader:
        yield leader


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, None], ids=["leader", "follower", "both"])
def test_two_processes_of_which_one_has_no_room_train_in_halves(leader: Leader, rank: int | None):
    """Each has four images of a batch. The other one waits for the first's gradients when that runs out of memory."""
    network, original = (hungry_network(2, rank), tiny_network(classes=3, norm=False, seed=5))
    step = Finetune(training=TAUGHT)
    given = replace(context(original, DATA, seed=3), ranks=leader)
    with pytest.raises(BatchTooLarge, match="from 8 to 4,") as caught:
        finetune(network, step, given)
    assert caught.value.of_gpu
    shared = finetune(network, step, replace(given, accumulation=2))
    assert shared.training is not None
    assert (shared.training.processes, shared.training.accumulation) == (2, 2)
    alone = finetune(hungry_network(8, None), step, replace(given, ranks=ALONE))
    assert_same(alone.network.module, shared.network.module)


def hungry_network(most: int, rank: int | None) -> Any:
    network = tiny_network(DATA.statistics, classes=3, norm=False)
    hungry(network.module, most, rank)
    return network
