"""How much work are the patterns of a recipe on a model's layers? Asked before any of them is tried."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.spec.inspection import LayerInspection
from modelpress.spec.name_pattern import is_wild
from modelpress.spec.steps import AnyStep, name_patterns

MOST_WORK = 1_000_000_000
"""Of all steps together: characters of patterns times characters of names. It is at most a few seconds of a core; a
hundred patterns of 40 characters on ResNet-152's layers are a hundredth of it."""

# What a pattern costs beside its characters: reading off which of the names it matches.
_EACH = 16


def work_of_patterns(step: AnyStep, layers: Sequence[LayerInspection]) -> int:
    """The work of the patterns of a step; names and `*` alone are next to none."""
    pattern_characters = sum(len(pattern) + _EACH for pattern in name_patterns(step) if is_wild(pattern))
    return pattern_characters * sum(len(layer.name) + 1 for layer in layers) if pattern_characters else 0


def too_much_work(layers: Sequence[LayerInspection]) -> str:
    """What is said of a recipe whose patterns are more than `MOST_WORK`."""
    return (
        f"the patterns of the steps up to this one are too much work on this model's {len(layers):,} layers: give "
        "fewer or shorter ones, or the layers' names, which are no work"
    )
