"""A program run without numbers: what shapes and types its values have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from modelpress.engine.graphs.network import called
from modelpress.spec.graph import Call, TensorShape

_META = torch.device("meta")
# What operators raise for arguments without sense, and where they need numbers.
_FAILED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Trial:
    """A run on tensors of the `meta` device, which have a shape and a type and take no room, for one size of batch."""

    def __init__(self, inputs: Mapping[str, TensorShape], batch: int, weight: Callable[[str], Tensor]) -> None:
        """`weight` gives a weight of the program by its name."""
        self._weight = weight
        self._values: dict[str, Any] = {
            name: torch.empty(batch, *shape.shape[1:], dtype=getattr(torch, shape.dtype.dtype), device=_META)
            for name, shape in inputs.items()
        }

    def add(self, call: Call) -> None:
        """Run one more call. Nothing is known afterwards of the values of one that does not run."""
        try:
            self._values.update(called(call, self._values, lambda name: self._weight(name).to(_META), _META))
        except _FAILED:
            return

    def tensor(self, name: str) -> Tensor | None:
        """A value, on `meta`; None where it is not known or no tensor."""
        value = self._values.get(name)
        return value if isinstance(value, Tensor) else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The sizes of a tensor; None where they are not known."""
        value = self.tensor(name)
        return None if value is None else tuple(value.shape)
