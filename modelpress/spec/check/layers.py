"""The layers that a selection picks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelpress.spec.check.misfit import listed
from modelpress.spec.name_pattern import matches
from modelpress.spec.steps import LayerSelection


def select_layers(layers: Mapping[str, str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks from `layers`, names to types, in their order.

    Raises ValueError when a pattern matches none of the names, or no layer is of a type: what is asked for is never
    skipped in silence.
    """
    for pattern in (*selection.include, *selection.exclude):
        matching(layers, pattern)
    present = list(dict.fromkeys(layers.values()))
    for layer_type in selection.types or ():
        if layer_type not in present:
            raise ValueError(f"no layer is of type {layer_type}; the types are {listed(present)}")
    chosen = [name for name, layer_type in layers.items() if is_selected(name, layer_type, selection)]
    if not chosen and selection.types is not None:
        raise ValueError("the patterns pick no layer of the `types`; add a type, or other patterns")
    if not chosen:
        raise ValueError("`exclude` leaves no layer; narrow it")
    return chosen


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that a pattern matches, in their order. Raises ValueError when there is none."""
    names = list(names)
    found = [name for name in names if matches(name, pattern)]
    if not found:
        raise ValueError(f"no layer matches {pattern!r}; the layers are {listed(names)}")
    return found


def is_selected(name: str, layer_type: str, selection: LayerSelection) -> bool:
    """True when a selection picks a layer of this name and type, whether or not the method can treat that layer."""
    if selection.types is not None and layer_type not in selection.types:
        return False
    return any(matches(name, pattern) for pattern in selection.include) and not any(
        matches(name, pattern) for pattern in selection.exclude
    )
