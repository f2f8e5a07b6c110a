"""What a check finds."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from modelpress.spec.config import Resource


class Misfit(Resource):
    """One thing that does not fit: where in the recipe (`steps.0.rank`), and what to do."""

    where: str = Field(description="Place in the recipe, such as `steps.0.rank`.")
    message: str = Field(description="What does not fit, and what to do.")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a sentence; of many, the first and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def shape_of(shape: Sequence[int]) -> str:
    """A shape for a sentence: 3 x 32 x 32."""
    return " x ".join(map(str, shape))
