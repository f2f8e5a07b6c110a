"""A training that two processes share, taken up by two others in its middle."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch
from torch import nn

from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.step import KeptStep
from modelpress.engine.network import Network
from modelpress.engine.ranks.leader import Leader
from modelpress.engine.step import StepContext
from modelpress.engine.steps import STEPS
from modelpress.spec.event import EngineEvent
from modelpress.spec.steps import Finetune
from modelpress.spec.task import CHECKPOINT_FOLDER
from modelpress.spec.training import Augmentation, Recovery
from tests.support.followers import CPU, leading
from tests.support.image_data import noise
from tests.support.tiny import tiny_network

DATA = noise(41)
# Six batches each epoch, of whose images each process draws other ones to drop.
STEP = Finetune(
    training=Recovery(
        epochs=3, batch_size=8, augmentation=Augmentation(crop_padding=2, mixup=0.4), precision="fp32", ema=0.9
    )
)


def test_what_two_processes_share_goes_on(tmp_path: Path):
    until = 9  # in the middle of the second epoch
    original = tiny_network(DATA.statistics, classes=3, norm=False)
    original.module = nn.Sequential(*original.module[:-1], nn.Dropout(), original.module[-1])
    whole, taken_up = tmp_path / "whole", tmp_path / "taken up"
    kept = 0

    def copy_one(_: EngineEvent) -> None:
        nonlocal kept
        kept += 1
        if kept == until:
            shutil.copytree(whole / CHECKPOINT_FOLDER, taken_up / CHECKPOINT_FOLDER)

    results = []
    for folder in (whole, taken_up):
        folder.mkdir(exist_ok=True)
        (tmp_path / f"meeting {folder.name}").mkdir()
        checkpoints = KeptStep(CheckpointFolder(folder, ("before", "behind"), copy_one), 0, 0.0, clock=lambda: 0.0)
        with leading(tmp_path / f"meeting {folder.name}") as leader:
            results.append(_trained(original, leader, checkpoints))
    assert kept == 17 + 17 - until  # behind each of 18 batches but the last; then behind those that were left
    first, second = results
    assert all(torch.equal(first[name], second[name]) for name in first)


def _trained(original: Network, leader: Leader, checkpoints: KeptStep) -> dict[str, torch.Tensor]:
    given = StepContext(original=original, data=DATA, seed=3, device=CPU, ranks=leader, checkpoints=checkpoints)
    return STEPS["finetune"](copy.deepcopy(original), STEP, given).network.module.state_dict()
