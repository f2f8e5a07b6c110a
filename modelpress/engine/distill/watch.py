"""What layers see or say in a forward pass, for losses that look inside a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def watch_outputs(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named layers in the latest forward pass; the network is as it was afterwards.

    A layer that works in place on another's output (`ReLU(inplace=True)`) changes what is seen of that one.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        seen[name] = output

    handles = [
        module.get_submodule(name).register_forward_hook(lambda _layer, _inputs, output, name=name: keep(name, output))
        for name in dict.fromkeys(names)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        seen.clear()


@contextmanager
def watch_inputs(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The same for what the named layers are given."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, given: Tensor) -> None:
        seen[name] = given

    handles = [
        module.get_submodule(name).register_forward_pre_hook(lambda _layer, inputs, name=name: keep(name, inputs[0]))
        for name in dict.fromkeys(names)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        seen.clear()
