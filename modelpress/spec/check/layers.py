"""The layers that a selection picks."""

from __future__ import annotations

from fnmatch import fnmatchcase

from modelpress.spec.check.misfit import listed
from modelpress.spec.steps import LayerSelection


def select_layers(names: list[str], selection: LayerSelection) -> list[str]:
    """Names that a selection picks, in their order.

    Raises ValueError when a pattern matches none of the names: a misspelt layer is never skipped in silence.
    """
    for pattern in (*selection.include, *selection.exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no layer matches {pattern!r}; the layers are {listed(names)}")
    chosen = [
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in selection.include)
        and not any(fnmatchcase(name, pattern) for pattern in selection.exclude)
    ]
    if not chosen:
        raise ValueError("`exclude` leaves no layer; narrow it")
    return chosen
