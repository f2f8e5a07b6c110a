"""Which layers a step treats."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from modelpress.spec.config import Config
from modelpress.spec.name_pattern import check_pattern

NamePattern = Annotated[str, AfterValidator(check_pattern)]


class LayerSelection(Config):
    """Which layers a step treats, by glob patterns on their names (`features.*`), or regular expressions (`re:`)."""

    include: tuple[NamePattern, ...] = Field(
        default=("*",), min_length=1, max_length=1000, description="Patterns; each must match some layer."
    )
    exclude: tuple[NamePattern, ...] = Field(
        default=(), max_length=1000, description="Patterns that win over `include`; each must match."
    )
