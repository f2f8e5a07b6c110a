"""The arithmetic of a training: fp32 or bf16 autocast, channels last or not, whichever a short trial shows faster."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot
from modelpress.engine.exhaustion import ran_out_of_memory
from modelpress.engine.scores import logits_of
from modelpress.spec.config import Config

# Below this many training steps a trial costs more than it can save.
_LEAST_STEPS = 60
_TRIAL_ROUNDS = 2
# A candidate replaces the first one only when it is faster by this factor, so that noise does not choose.
_MARGIN = 1.1


class _Chosen(Config):
    precision: Literal["fp32", "bf16"]
    channels_last: bool
    accumulation: int = Field(default=1, ge=1, description="Parts that each batch is computed in.")


@dataclass(frozen=True)
class Arithmetic:
    """How forward and backward passes are computed."""

    precision: Literal["fp32", "bf16"]
    channels_last: bool
    accumulation: int = 1  # parts that each batch is computed in, one after the other; their gradients are added up

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images and kernels in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def snapshot(self) -> Snapshot:
        """The choice, which a clock has made: the next process must not make another."""
        chosen = _Chosen(precision=self.precision, channels_last=self.channels_last, accumulation=self.accumulation)
        # Whole batches go without saying, to an engine of the version before as well.
        return Snapshot(facts=chosen.model_dump(exclude_defaults=True))

    @classmethod
    def of(cls, snapshot: Snapshot) -> Arithmetic:
        """What another process chose. Raises UnusableCheckpoint."""
        chosen = snapshot.read(_Chosen)
        return cls(chosen.precision, chosen.channels_last, chosen.accumulation)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which a forward pass runs; its weights stay fp32."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")


def choose_arithmetic(
    module: nn.Module,
    images: Tensor,
    *,
    precision: Literal["auto", "fp32", "bf16"],
    steps: int,
    teachers: Sequence[nn.Module] = (),
) -> Arithmetic:
    """Choose by timing a few forward and backward passes of a copy; `module` and random states stay as they are.

    `images` is a normalised batch (B, C, H, W) on the module's device; `precision` restricts the choice; `steps` is the
    length of the training. Short trainings take channels-last fp32 without a trial. What the network or one of its
    `teachers` cannot be computed in is not chosen; raises what they raise where that is the default.
    """
    default = Arithmetic("bf16" if precision == "bf16" else "fp32", channels_last=True)
    # Channels last comes first: it was never slower for convolutions here. A network without any has no such layout.
    candidates = {
        "auto": [default, Arithmetic("bf16", channels_last=True), Arithmetic("fp32", channels_last=False)],
        "fp32": [default, Arithmetic("fp32", channels_last=False)],
        "bf16": [default, Arithmetic("bf16", channels_last=False)],
    }[precision]
    if not any(isinstance(layer, nn.Conv2d) for layer in module.modules()):
        candidates = [candidate for candidate in candidates if candidate.channels_last]
    if steps < _LEAST_STEPS or len(candidates) == 1:
        return default
    # Half a batch tells the same at half the cost; batch norm needs two images.
    images = images[: max(2, len(images) // 2)]
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Dropout draws and batch norm's running averages happen in the copy, outside the forked random state.
        trial = copy.deepcopy(module).train()
        seconds = dict.fromkeys(candidates, float("inf"))
        for turn in range(_TRIAL_ROUNDS + 1):
            for candidate in list(candidates):
                try:
                    if turn == 0:
                        _ask(teachers, images, candidate)
                    elapsed = _time_pass(trial, images, candidate)
                except Exception as error:
                    if candidate == default or ran_out_of_memory(error):
                        raise
                    candidates.remove(candidate)  # a network's code may ask anything of types and layouts
                    trial.zero_grad()
                    continue
                if turn > 0:  # the first round warms up
                    seconds[candidate] = min(seconds[candidate], elapsed)
    fastest = min(candidates, key=seconds.__getitem__)
    return fastest if seconds[fastest] * _MARGIN < seconds[default] else default


def lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Put the kernels of a network into a layout, in place; their values stay."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _time_pass(module: nn.Module, images: Tensor, arithmetic: Arithmetic) -> float:
    lay_out(module, arithmetic.memory_format)
    images = images.contiguous(memory_format=arithmetic.memory_format)
    _wait(images.device)
    begin = time.perf_counter()
    with arithmetic.autocast(images.device):
        logits = logits_of(module, images)
    torch.autograd.backward(logits.square().mean())
    _wait(images.device)
    elapsed = time.perf_counter() - begin
    module.zero_grad()
    return elapsed


def _ask(teachers: Sequence[nn.Module], images: Tensor, arithmetic: Arithmetic) -> None:
    with torch.no_grad(), arithmetic.autocast(images.device):
        for teacher in teachers:
            logits_of(teacher, images)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
