"""All that a training remembers from one batch to the next, as one snapshot."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import nn

from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.averaging import tensors_of
from modelpress.engine.checkpoints.snapshot import Snapshot, Stateful, UnusableCheckpoint, join, part_of
from modelpress.spec.config import Config


class Position(Config):
    """Where a training stands between two batches."""

    epoch: int = Field(default=1, ge=1, description="The epoch that the next batch belongs to.")
    step: int = Field(default=0, ge=0, description="Steps that were made.")


class TrainingState:
    """The state of a training whose parts are there, none of them used yet.

    The learning rate is no part of it: it follows from the step. Neither are gradients: each step begins without any.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        arithmetic: Arithmetic,
        device: torch.device,
        parts: Mapping[str, Stateful],
    ) -> None:
        """`parts` are all others that remember something."""
        self._arithmetic = arithmetic
        self._parts: dict[str, Stateful] = {
            "weights": _Weights(module),
            "optimizer": _OptimizerState(optimizer),
            "random": _RandomState(device),
            **parts,
        }

    def snapshot(self, position: Position) -> Snapshot:
        """The state at `position`. Raises Diverged."""
        own = {"position": Snapshot(facts=position.model_dump()), "arithmetic": self._arithmetic.snapshot()}
        return join(own | {name: part.snapshot() for name, part in self._parts.items()})

    def resume(self, saved: Snapshot) -> Position:
        """Put a training like this one where that one stood. Raises UnusableCheckpoint: then it is of no use."""
        for name, part in self._parts.items():
            part.resume(part_of(saved, name))
        return part_of(saved, "position").read(Position)


class _Weights:
    """Parameters and buffers."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def snapshot(self) -> Snapshot:
        return Snapshot(tensors_of(self._module))

    def resume(self, snapshot: Snapshot) -> None:
        snapshot.copy_into(tensors_of(self._module))


class _OptimizerState:
    """Momentum and the like of each parameter, by its number."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            {
                f"{number}/{name}": value
                for number, parameter in enumerate(self._parameters)
                for name, value in self._optimizer.state.get(parameter, {}).items()
                if isinstance(value, torch.Tensor)
            }
        )

    def resume(self, snapshot: Snapshot) -> None:
        for key, saved in snapshot.tensors.items():
            number, _, name = key.partition("/")
            if not number.isdecimal() or int(number) >= len(self._parameters):
                raise UnusableCheckpoint("its optimiser has other parameters")
            parameter = self._parameters[int(number)]
            # A count of steps has one number, whatever the parameter's shape.
            like = torch.empty((), device=parameter.device) if saved.ndim == 0 else parameter
            self._optimizer.state[parameter][name] = snapshot.like(key, like)


class _RandomState:
    """What dropout and its like draw from."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def snapshot(self) -> Snapshot:
        states = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        return Snapshot(states)

    def resume(self, snapshot: Snapshot) -> None:
        try:
            torch.set_rng_state(snapshot.like("cpu", torch.get_rng_state()))
            # Begun on a processor, a training goes on on a GPU with what the seed alone gives there.
            if self._device.type == "cuda" and "cuda" in snapshot.tensors:
                torch.cuda.set_rng_state(snapshot.like("cuda", torch.cuda.get_rng_state(self._device)), self._device)
        except RuntimeError as error:
            raise UnusableCheckpoint("it has no state that a generator can take") from error
