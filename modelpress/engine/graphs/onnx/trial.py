"""A program on its way, run without numbers: what shapes and types its values have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from modelpress.engine.graphs.network import called
from modelpress.spec.graph import Call, TensorShape

_META = torch.device("meta")
# Two batches: a size that differs between them comes from the batch.
_BATCHES = (5, 7)
# What operators raise for arguments without sense, and where they need numbers.
_FAILED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Trial:
    """Runs of all calls so far on tensors of the `meta` device, which have a shape and a type and take no room."""

    def __init__(self, name: str, shape: TensorShape) -> None:
        batches = (shape.shape[0],) * 2 if shape.shape[0] else _BATCHES
        dtype = getattr(torch, shape.dtype.dtype)
        self._runs: list[dict[str, Any]] = [
            {name: torch.empty(batch, *shape.shape[1:], dtype=dtype, device=_META)} for batch in batches
        ]

    def add(self, call: Call, state: Mapping[str, Tensor]) -> None:
        """Run one more call. Nothing is known afterwards of the values of one that does not run."""
        for values in self._runs:
            try:
                values.update(called(call, values, lambda name: state[name].to(_META), _META))
            except _FAILED:
                continue

    def shape(self, name: str) -> list[int | None] | None:
        """Sizes of a tensor, None for those that come from the batch's; None where it is not known or no tensor."""
        one, other = (values.get(name) for values in self._runs)
        if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.ndim != other.ndim:
            return None
        return [first if first == second else None for first, second in zip(one.shape, other.shape, strict=True)]

    def is_integral(self, name: str) -> bool:
        """Whether a value is known to be of whole numbers."""
        value = self._runs[0].get(name)
        return isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool

    def elements(self, names: tuple[str, ...]) -> int | None:
        """Elements of some tensors together; None where not all are known."""
        total = 0
        for name in names:
            value = self._runs[0].get(name)
            if not isinstance(value, Tensor):
                return None
            total += value.numel()
        return total
