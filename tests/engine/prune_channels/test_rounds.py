"""Removal and training in turn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modelpress.engine.journal import TrainingProgress
from modelpress.engine.measure import count_macs
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune_channels import step as module_of_step
from modelpress.engine.prune_channels.rounds import Round, in_all, rounds_of, within
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.step import StepContext
from modelpress.spec.report import TrainingSummary
from modelpress.spec.steps import PruneChannels
from modelpress.spec.training import Training
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network

DATA = noise(16, size=32, heldout=2)


def step_of(rounds: int, epochs: int, **options: object) -> PruneChannels:
    training = {"epochs": epochs, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3}
    given = {"target": {"kind": "channels", "removed": 0.6}, "rounds": rounds, "training": training, **options}
    return PruneChannels.model_validate(given)


def vgg() -> Network:
    return network(describe("vgg11_bn_cifar", width=0.125, num_classes=3, in_channels=1))


def channels(one: nn.Module) -> int:
    layers = [layer for name, layer in one.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return sum(len(layer.weight) for layer in layers[:-1])


def test_the_epochs_are_divided_and_the_last_round_has_what_is_over() -> None:
    rounds = list(rounds_of(step_of(3, 8)))
    assert [one.training.epochs for one in rounds if one.training is not None] == [2, 2, 4]
    assert [one.epochs_before for one in rounds] == [0, 2, 4]
    assert [one.share for one in rounds] == pytest.approx([0.2, 0.4, 0.6])
    (alone,) = rounds_of(PruneChannels.model_validate({"target": {"kind": "macs", "removed": 0.5}}))
    assert alone == Round(0.5, None, 0, 0)


@pytest.mark.parametrize("scope", ["global", "local"])
def test_an_equal_part_goes_in_each_round_before_its_training(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:
    original = vgg()
    before = channels(original.module)
    seen: list[int] = []
    recover = module_of_step.recover

    def spy(trained: Network, training: Training, given: StepContext) -> TrainingSummary:
        seen.append(before - channels(trained.module))
        return recover(trained, training, given)

    monkeypatch.setattr(module_of_step, "recover", spy)
    result = prune_channels(original, step_of(3, 3, scope=scope), context(original, DATA))
    # Rounded up, each time.
    assert seen == [-(-before * part // 5) for part in (1, 2, 3)]
    assert channels(result.network.module) == before - seen[-1]
    assert result.training is not None
    assert (result.training.epochs, result.training.steps) == (3, 6)
    # One edit from the network that came in, whatever happened between.
    assert len(result.network.description.edits) == 1
    again = rebuild(result.network.description)
    again.load_state_dict(result.network.module.state_dict())


def test_importance_is_taken_anew_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    original = vgg()

    def turn(trained: Network, training: Training, given: StepContext) -> TrainingSummary:
        weight = trained.module.get_parameter("features.0.weight")
        kept.append(weight.detach().clone())
        with torch.no_grad():  # a training that makes small what was large
            weight.copy_(weight / weight.flatten(1).norm(dim=1)[:, None, None, None] ** 2)
        return summary(1, 1.0)

    kept: list[torch.Tensor] = []
    monkeypatch.setattr(module_of_step, "recover", turn)
    step = step_of(2, 2, target={"kind": "channels", "removed": 0.5}, layers={"include": ["features.0"]})
    prune_channels(original, step, context(original, DATA))
    norms = original.module.get_parameter("features.0.weight").detach().flatten(1).norm(dim=1)
    order = norms.argsort()  # 8 channels: the two least go, then the two largest
    again = [norms[channel] for channel in sorted(order[2:6].tolist())]
    torch.testing.assert_close(kept[1].flatten(1).norm(dim=1).reciprocal(), torch.stack(again))


def test_no_layer_loses_more_than_its_share_over_all_rounds() -> None:
    original = vgg()
    step = step_of(3, 3, target={"kind": "macs", "removed": 0.5}, max_layer_share=0.5, round_to=2)
    result = prune_channels(original, step, context(original, DATA)).network
    for name, layer in original.module.named_modules():
        if isinstance(layer, nn.Conv2d):
            left = len(result.module.get_parameter(f"{name}.weight"))
            assert left >= len(layer.weight) / 2
            assert left % 2 == 0
    before, after = (count_macs(one.module, (1, 32, 32)) for one in (original, result))
    assert 1 - after / before >= 0.5


@pytest.mark.parametrize("criterion", ["taylor", "random"])
def test_the_same_seed_gives_the_same_network(criterion: str) -> None:
    original = vgg()
    before = copy.deepcopy(original.module.state_dict())
    step = step_of(2, 2, criterion=criterion, calibration_images=4)
    one, other = (prune_channels(original, step, context(original, DATA, seed=3)).network for _ in range(2))
    states = one.module.state_dict(), other.module.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())


def summary(steps: int, speed: float) -> TrainingSummary:
    return TrainingSummary(
        epochs=steps, steps=steps, images_per_second=speed, precision="fp32", channels_last=False, device="cpu",
        final_loss=1 / speed,
    )  # fmt: skip


def test_progress_goes_on_from_round_to_round() -> None:
    told: list[TrainingProgress] = []
    base = context(vgg(), DATA, on_progress=told.append)
    earlier: list[TrainingSummary] = []
    for one in rounds_of(step_of(3, 8)):
        assert one.training is not None
        tell = within(base, one, earlier).on_progress
        assert tell is not None
        for fraction in (0.25, 1.0):
            epoch = max(1, round(fraction * one.training.epochs))
            metrics = {"epoch": float(epoch), "step": 10.0 * fraction, "seconds_left": 40 * (1 - fraction), "loss": 2.0}
            tell(TrainingProgress(fraction, epoch, one.training.epochs, metrics))
        earlier.append(summary(10, 1.0))
    assert [one.fraction for one in told] == pytest.approx([0.5 / 8, 2 / 8, 2.5 / 8, 4 / 8, 5 / 8, 1])
    assert [one.epoch for one in told] == [1, 2, 3, 4, 5, 8]
    assert {one.epochs for one in told} == {8}
    assert [one.metrics["step"] for one in told] == [2.5, 10, 12.5, 20, 22.5, 30]
    # 30 s for the 1.5 epochs that are left of the round's two: 150 s for the 7.5 of all rounds.
    assert told[0].metrics["seconds_left"] == pytest.approx(150)
    assert told[-1].metrics["seconds_left"] == 0
    assert told[0].metrics["loss"] == 2.0


def test_a_teacher_that_answers_before_the_first_step_is_told_of_too() -> None:
    told: list[TrainingProgress] = []
    base = context(vgg(), DATA, on_progress=told.append)
    _, second = rounds_of(step_of(2, 4))
    tell = within(base, second, [summary(10, 1.0)]).on_progress
    assert tell is not None
    tell(TrainingProgress(0.0, 1, 2, {"teacher_answers": 0.5}))
    assert told == [TrainingProgress(0.5, 3, 4, {"teacher_answers": 0.5})]


def test_trainings_as_one() -> None:
    assert in_all([]) is None
    whole = in_all([summary(30, 100.0), summary(10, 20.0)])
    assert whole is not None
    # 30 steps at 100 and 10 at 20 take as long as 40 at 50.
    assert (whole.epochs, whole.steps, whole.images_per_second) == (40, 40, pytest.approx(50))
    assert whole.final_loss == 1 / 20
    assert (whole.best_epoch, whole.stopped_early) == (None, False)


def test_a_round_that_was_computed_in_halves_is_told_of() -> None:
    halves = summary(30, 100.0).model_copy(update={"accumulation": 2})
    whole = in_all([halves, summary(10, 20.0)])
    assert whole is not None
    assert whole.accumulation == 2


def test_the_best_epoch_is_counted_over_all_rounds() -> None:
    first = summary(30, 100.0).model_copy(update={"best_epoch": 2, "stopped_early": True})
    whole = in_all([first, summary(10, 20.0).model_copy(update={"best_epoch": 4})])
    assert whole is not None
    assert (whole.best_epoch, whole.stopped_early) == (first.epochs + 4, True)
