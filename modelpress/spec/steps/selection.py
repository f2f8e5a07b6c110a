"""Which layers a step treats."""

from __future__ import annotations

from pydantic import Field

from modelpress.spec.config import Config


class LayerSelection(Config):
    """Which layers a step treats, by glob patterns on their names (`features.*`)."""

    include: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns; each must match some layer.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns that win over `include`; each must match.")
