"""The layers that a selection picks."""

from __future__ import annotations

from modelpress.spec.check.misfit import listed
from modelpress.spec.name_pattern import matches
from modelpress.spec.steps import LayerSelection


def select_layers(names: list[str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks, in their order.

    Raises ValueError when a pattern matches none of the names: a misspelt layer is never skipped in silence.
    """
    for pattern in (*selection.include, *selection.exclude):
        if not any(matches(name, pattern) for name in names):
            raise ValueError(f"no layer matches {pattern!r}; the layers are {listed(names)}")
    chosen = [name for name in names if is_selected(name, selection)]
    if not chosen:
        raise ValueError("`exclude` leaves no layer; narrow it")
    return chosen


def is_selected(name: str, selection: LayerSelection) -> bool:
    """True when a selection picks a layer of this name, whether or not the method can treat that layer."""
    return any(matches(name, pattern) for pattern in selection.include) and not any(
        matches(name, pattern) for pattern in selection.exclude
    )
