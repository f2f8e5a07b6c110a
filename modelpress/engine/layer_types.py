"""The layers of a network by type: how many there are, what they hold, what they compute."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from modelpress.engine.network import layer_type
from modelpress.spec.inspection import TypeFigures


def own_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Modules that have no others inside, and those that have parameters of their own, by name.

    The latter hold a class token, say, or the three matrices of an attention.
    """
    return {
        name: layer
        for name, layer in module.named_modules()
        if not any(True for _ in layer.children()) or any(True for _ in layer.parameters(recurse=False))
    }


def figures_by_type(layers: Mapping[str, nn.Module], macs: Mapping[str, int]) -> tuple[TypeFigures, ...]:
    """Figures of `layers` by their type, in the order in which types first come.

    `macs` are the multiply-accumulates of each layer's calls. Those of a module with others inside are not counted, as
    they are those of the modules inside, too. A parameter that layers share counts where it comes first.
    """
    counts: dict[str, list[int]] = {}
    seen: set[int] = set()
    for name, layer in layers.items():
        figures = counts.setdefault(layer_type(layer), [0, 0, 0])
        figures[0] += 1
        for parameter in layer.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                figures[1] += parameter.numel()
        if not any(True for _ in layer.children()):
            figures[2] += macs[name]
    return tuple(
        TypeFigures(type=kind, layers=number, parameters=parameters, macs=products)
        for kind, (number, parameters, products) in counts.items()
    )
