"""The layers that a selection picks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelpress.spec.check.misfit import listed
from modelpress.spec.name_pattern import Names
from modelpress.spec.steps import LayerSelection


def select_layers(layers: Mapping[str, str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks from `layers`, names to types, in their order.

    Raises ValueError when a pattern matches none of the names, or no layer is of a type: what is asked for is never
    skipped in silence.
    """
    names = Names(layers)
    chosen = _picked(layers, selection, lambda pattern: matching(names, pattern))
    present = list(dict.fromkeys(layers.values()))
    for layer_type in selection.types or ():
        if layer_type not in present:
            raise ValueError(f"no layer is of type {layer_type}; the types are {listed(present)}")
    if not chosen and selection.types is not None:
        raise ValueError("the patterns pick no layer of the `types`; add a type, or other patterns")
    if not chosen:
        raise ValueError("`exclude` leaves no layer; narrow it")
    return chosen


def picked_layers(layers: Mapping[str, str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks, whether or not each of its patterns and types is there; none, perhaps."""
    return _picked(layers, selection, Names(layers).matching)


def matching(names: Names, pattern: str) -> list[str]:
    """Names that a pattern matches, in their order. Raises ValueError when there is none."""
    found = names.matching(pattern)
    if not found:
        raise ValueError(f"no layer matches {pattern!r}; the layers are {listed(names.names)}")
    return found


def _picked(layers: Mapping[str, str], selection: LayerSelection, matched: Callable[[str], list[str]]) -> list[str]:
    # Pattern by pattern, so that each is followed through all names at once.
    included = {name for pattern in selection.include for name in matched(pattern)}
    for pattern in selection.exclude:
        included.difference_update(matched(pattern))
    types = None if selection.types is None else set[str](selection.types)
    return [name for name, layer_type in layers.items() if name in included and (types is None or layer_type in types)]
