"""A step that was broken off and goes on in another place comes to the weights of one that was not, bit by bit."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.checkpoints.step import KeptStep
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.network import Network
from modelpress.engine.step import StepResult
from modelpress.engine.steps import STEPS
from modelpress.spec.event import EngineEvent
from modelpress.spec.steps import Step
from modelpress.spec.task import CHECKPOINT_WANTED_FILE
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network

pytestmark = pytest.mark.slow

STEP: TypeAdapter[Step] = TypeAdapter(Step)  # type: ignore[type-arg, valid-type]  # an annotated union
# Six steps each epoch; of the last batch there are three images.
DATA = noise(43, size=32)
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "precision": "fp32"}
AUGMENTATION = {"horizontal_flip": True, "crop_padding": 2, "random_erasing": 0.5, "mixup": 0.4}
AVERAGED = {**TRAINING, "ema": 0.9}
VALIDATED = {**AVERAGED, "validation": 0.2, "keep_best": True}
CUBIC = {"kind": "cubic", "frequency": 5, "begin": 0.1, "end": 0.9}
TINY_VGG = {"architecture": "vgg11_bn_cifar", "arguments": {"width": 0.0625}}
HINTS = {"kind": "hints", "layers": [{"teacher": "features.4", "student": "features.0"}]}
STEPS_TO_BREAK = {
    "plain": {"kind": "finetune", "training": TRAINING},
    "augmented": {"kind": "finetune", "training": {**TRAINING, "augmentation": AUGMENTATION}},
    "adamw": {"kind": "finetune", "training": {**TRAINING, "optimizer": "adamw", "schedule": "one_cycle"}},
    "averaged": {"kind": "finetune", "training": AVERAGED},
    "validated": {"kind": "finetune", "training": VALIDATED},
    "clipped": {"kind": "finetune", "training": {**TRAINING, "gradient_clip": 0.5, "label_smoothing": 0.1}},
    "cubic": {"kind": "prune", "sparsity": 0.8, "schedule": CUBIC, "training": {**TRAINING, "teacher": "original"}},
    "cubic validated": {"kind": "prune", "sparsity": 0.8, "schedule": CUBIC, "training": VALIDATED},
    "movement": {
        "kind": "prune",
        "sparsity": 0.5,
        "criterion": "movement",
        "schedule": CUBIC,
        "training": TRAINING,
    },
    "rigl": {
        "kind": "prune",
        "sparsity": 0.5,
        "schedule": {"kind": "rigl", "frequency": 2},
        "training": TRAINING,
    },
    "iterative": {
        "kind": "prune",
        "sparsity": 0.5,
        "criterion": "taylor",
        "schedule": {"kind": "iterative", "rounds": 4},
        "training": TRAINING,
    },
    "uniform": {"kind": "quantize", "bits": 4, "training": TRAINING},
    "codebook": {"kind": "quantize", "bits": 3, "scheme": "codebook", "training": VALIDATED},
    "rated": {"kind": "quantize", "bits": 3, "rate": 3.0, "step_sizes": "learned", "training": VALIDATED},
    "distilled": {"kind": "distill", "student": TINY_VGG, "training": TRAINING},
    "hints": {"kind": "distill", "student": {"kind": "current"}, "loss": HINTS, "training": TRAINING},
    "factorized": {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.2}, "training": TRAINING},
    "narrowed": {
        "kind": "prune_channels",
        "target": {"kind": "channels", "removed": 0.5},
        "rounds": 3,
        "training": TRAINING,
    },
}


PRINTS = ("before", "behind")  # of a task of one step


class Killed(BaseException):
    """As if the process ended: nothing may catch it, and nothing of it is used again."""


class Attempts:
    """One step in several attempts, each of which finds only what the one before left in the folder."""

    def __init__(self, original: Network, step: dict[str, Any], folder: Path, data: ImageData = DATA) -> None:
        self.original, self.step, self.folder, self.data = original, STEP.validate_python(step), folder, data
        self.kept = 0  # in the latest attempt

    def run(self, *, until: int | None = None, every: float | None = 0.0) -> StepResult:
        """An attempt that is killed once it has left so many checkpoints."""
        self.kept = 0
        self.folder.mkdir(exist_ok=True)

        def emit(_: EngineEvent) -> None:
            self.kept += 1
            if self.kept == until:
                raise Killed

        # By a clock that stands still a checkpoint is due behind every batch.
        checkpoints = KeptStep(CheckpointFolder(self.folder, PRINTS, emit), 0, every, clock=lambda: 0.0)
        given = replace(context(self.original, self.data, seed=5), checkpoints=checkpoints)
        torch.manual_seed(given.seed)  # as before every step of a job
        return STEPS[self.step.kind](copy.deepcopy(self.original), self.step, given)


@pytest.fixture(scope="module")
def original() -> Network:
    original = network(describe("vgg11_bn_cifar", num_classes=3, in_channels=1, width=0.0625))
    original.description = original.description.model_copy(update={"preprocessing": DATA.statistics})
    return original


def state_of(result: StepResult) -> dict[str, Tensor]:
    """All that a step leaves of a network."""
    made = result.network
    grids = {f"grid {name}": torch.cat([grid.levels, grid.scales]) for name, grid in made.grids.items()}
    masks = {f"mask {name}": mask for name, mask in made.masks.items()}
    return {**made.module.state_dict(), **grids, **masks}


def assert_same(result: StepResult, expected: StepResult) -> None:
    found, wanted = state_of(result), state_of(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert result.network.description == expected.network.description
    assert (result.layers, result.skipped) == (expected.layers, expected.skipped)
    assert result.training is not None
    assert expected.training is not None
    exact = {"epochs", "steps", "best_epoch", "best_validation_accuracy", "stopped_early"}
    assert result.training.model_dump(include=exact) == expected.training.model_dump(include=exact)
    assert result.training.final_loss == pytest.approx(expected.training.final_loss, rel=1e-6)


@pytest.mark.parametrize("name", STEPS_TO_BREAK)
def test_a_broken_off_step_comes_to_the_same_weights(original: Network, name: str, tmp_path: Path):
    step = STEPS_TO_BREAK[name]
    whole = Attempts(original, step, tmp_path / "whole")
    expected = whole.run()
    attempts = Attempts(original, step, tmp_path / "broken")
    # In the first epoch, in the second, and in the last.
    for until in (2, 5, 6):
        with pytest.raises(Killed):
            attempts.run(until=until)
    assert_same(attempts.run(), expected)
    # It went on behind the thirteenth of its checkpoints.
    assert attempts.kept == whole.kept - 13


def test_what_dropout_draws_goes_on(tmp_path: Path):
    data = noise(24)
    original = tiny_network(data.statistics, classes=3)
    original.module = nn.Sequential(*original.module[:-1], nn.Dropout(), original.module[-1])
    step = {"kind": "finetune", "training": TRAINING}
    expected = Attempts(original, step, tmp_path / "whole", data).run(every=None)
    attempts = Attempts(original, step, tmp_path / "broken", data)
    with pytest.raises(Killed):
        attempts.run(until=4)
    assert_same(attempts.run(), expected)


def test_patience_is_not_counted_anew(original: Network, tmp_path: Path):
    step = {"kind": "finetune", "training": {**VALIDATED, "epochs": 12, "patience": 3}}
    expected = Attempts(original, step, tmp_path / "whole").run(every=None)
    assert expected.training is not None
    assert expected.training.stopped_early
    attempts = Attempts(original, step, tmp_path / "broken")
    with pytest.raises(Killed):  # after the last epoch but one
        attempts.run(until=5 * (expected.training.epochs - 1))
    assert_same(attempts.run(), expected)
    assert attempts.kept == 4  # behind each batch of the last epoch but the last


def test_masks_and_grids_of_earlier_steps_are_held_on(original: Network, tmp_path: Path):
    given = context(original, DATA)
    for step in ({"kind": "prune", "sparsity": 0.5}, {"kind": "quantize", "bits": 4}):
        original = STEPS[step["kind"]](original, STEP.validate_python(step), given).network
    step = STEPS_TO_BREAK["plain"]
    expected = Attempts(original, step, tmp_path / "whole").run(every=None)
    attempts = Attempts(original, step, tmp_path / "broken")
    with pytest.raises(Killed):
        attempts.run(until=3)
    assert_same(attempts.run(), expected)


def test_another_training_is_not_gone_on_with(original: Network, tmp_path: Path):
    """What the task's fingerprint should keep apart is still refused by what it holds."""
    with pytest.raises(Killed):
        Attempts(original, STEPS_TO_BREAK["plain"], tmp_path).run(until=1)
    for other in ("averaged", "factorized", "movement", "uniform", "rated"):
        with pytest.raises(UnusableCheckpoint):
            Attempts(original, STEPS_TO_BREAK[other], tmp_path).run()


def test_a_file_that_takes_long_to_write_is_written_less_often(tmp_path: Path):
    now = 0.0
    kept = KeptStep(CheckpointFolder(tmp_path, PRINTS, lambda _: advance()), 0, 60.0, clock=lambda: now)

    def advance() -> None:
        nonlocal now
        now += 5.0

    now = 59.0
    assert not kept.due()
    now = 60.0
    assert kept.due()
    kept.keep(Snapshot())  # which takes five seconds, a twentieth of a hundred
    now = 65.0 + 99.0
    assert not kept.due()
    now = 65.0 + 100.0
    assert kept.due()


def test_one_that_is_wanted_is_due_at_once(tmp_path: Path):
    kept = KeptStep(CheckpointFolder(tmp_path, PRINTS, lambda _: None), 0, 60.0, clock=lambda: 0.0)
    assert not kept.due()
    (tmp_path / CHECKPOINT_WANTED_FILE).touch()
    assert kept.due()
    kept.keep(Snapshot())
    assert not kept.due()
