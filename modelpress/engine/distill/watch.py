"""What layers see or say in a forward pass, for losses that look inside a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class _Keep:
    """A hook that keeps what it sees under a name. A class, as functions inside functions cannot be pickled."""

    def __init__(self, seen: dict[str, Tensor], name: str) -> None:
        self._seen, self._name = seen, name

    def output(self, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen[self._name] = output

    def input(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen[self._name] = inputs[0]


@contextmanager
def watch_outputs(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named layers in the latest forward pass; the network is as it was afterwards.

    A layer that works in place on another's output (`ReLU(inplace=True)`) changes what is seen of that one.
    """
    seen: dict[str, Tensor] = {}
    layers = {name: module.get_submodule(name) for name in names}
    with _clearing(seen, [layer.register_forward_hook(_Keep(seen, name).output) for name, layer in layers.items()]):
        yield seen


@contextmanager
def watch_inputs(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The same for what the named layers are given."""
    seen: dict[str, Tensor] = {}
    layers = {name: module.get_submodule(name) for name in names}
    with _clearing(seen, [layer.register_forward_pre_hook(_Keep(seen, name).input) for name, layer in layers.items()]):
        yield seen


@contextmanager
def _clearing(seen: dict[str, Tensor], handles: Sequence[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        seen.clear()
