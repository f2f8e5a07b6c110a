"""What one part of a training has to remember, so that another process goes on as if nothing had been between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from pydantic import BaseModel, JsonValue, ValidationError
from torch import Tensor

Facts = TypeVar("Facts", bound=BaseModel)


class UnusableCheckpoint(Exception):
    """A checkpoint is damaged, or belongs to something else; the message says which in half a sentence."""


@dataclass(frozen=True)
class Snapshot:
    """Tensors by name, and what JSON can hold. The tensors are those at work, not copies: write it before going on."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: JsonValue = None

    def read(self, kind: type[Facts]) -> Facts:
        """The facts as what they should be. Raises UnusableCheckpoint."""
        try:
            return kind.model_validate(self.facts)
        except ValidationError as error:
            raise UnusableCheckpoint(f"it has no {kind.__name__} that can be read") from error

    def like(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor of this name, which must have the shape and type of `tensor`, laid out as that one and beside it.

        The layout counts: torch's fused optimisers walk through weights, gradients and momentum in order of memory.
        Raises UnusableCheckpoint.
        """
        found = self.tensors.get(name)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise UnusableCheckpoint(f"it has no tensor {name!r} of the shape that this one has to have")
        return torch.empty_like(tensor, requires_grad=False).copy_(found)

    @torch.no_grad()
    def copy_into(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the tensors of these names in the place of those. Raises UnusableCheckpoint."""
        for name, tensor in tensors.items():
            tensor.copy_(self.like(name, tensor))


class Stateful(Protocol):
    """A part of a training that remembers something from one batch to the next."""

    def snapshot(self) -> Snapshot:
        """All that it remembers."""

    def resume(self, snapshot: Snapshot) -> None:
        """Remember what another one like it did. Raises UnusableCheckpoint, and is of no use any more then."""


def join(parts: Mapping[str, Snapshot]) -> Snapshot:
    """Several snapshots as one; their names have no `/`."""
    return Snapshot(
        {f"{part}/{name}": tensor for part, one in parts.items() for name, tensor in one.tensors.items()},
        {part: one.facts for part, one in parts.items()},
    )


def part_of(whole: Snapshot, part: str) -> Snapshot:
    """One of the snapshots that were joined. Raises UnusableCheckpoint when there is none of this name."""
    if not isinstance(whole.facts, dict) or part not in whole.facts:
        raise UnusableCheckpoint(f"it says nothing of the {part}")
    tensors = {
        name.removeprefix(f"{part}/"): tensor for name, tensor in whole.tensors.items() if name.startswith(f"{part}/")
    }
    return Snapshot(tensors, whole.facts[part])
