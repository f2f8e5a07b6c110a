"""A bound on what building a network may allocate, so that `num_classes=1000000000` is refused, not tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# The largest network by name, regnet_y_128gf, has 644,812,894 parameters in 711 tensors.
MOST_ELEMENTS = 1_000_000_000
MOST_TENSORS = 20_000

_ALLOCATORS: frozenset[Callable[..., Any]] = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor, torch.arange}
)


class TooLargeError(Exception):
    """Building needs more than the bound."""


class Budget(TorchFunctionMode):
    """While it is entered, torch's tensors made from nothing are counted, each *before* its memory is taken.

    Raises TooLargeError from within the constructor that asks for too much. Counting in the one pass that builds the
    network, rather than in a rehearsal on the meta device, serves constructors that read values of their tensors too
    (torchvision's RegNets do).
    """

    def __init__(self, most_elements: int = MOST_ELEMENTS, most_tensors: int = MOST_TENSORS) -> None:
        super().__init__()
        self.elements = 0
        self.tensors = 0
        self._most_elements = most_elements
        self._most_tensors = most_tensors

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ALLOCATORS:
            self.tensors += 1
            self.elements += func(*args, **{**kwargs, "device": "meta"}).numel()
            if self.elements > self._most_elements:
                raise TooLargeError(f"it would have more than {self._most_elements:,} parameters")
            if self.tensors > self._most_tensors:
                raise TooLargeError(f"it would have more than {self._most_tensors:,} weight tensors")
        return func(*args, **kwargs)
