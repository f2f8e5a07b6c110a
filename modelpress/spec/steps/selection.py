"""Which layers a step treats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelpress.spec.config import Config
from modelpress.spec.name_pattern import check_pattern

NamePattern = Annotated[str, AfterValidator(check_pattern)]

# The classes of torch whose layers steps treat; subclasses count as what they derive from.
LayerType = Literal["Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class LayerSelection(Config):
    """Which layers a step treats, by their type, and glob patterns (`features.*`) or regular expressions (`re:`)."""

    include: tuple[NamePattern, ...] = Field(
        default=("*",), min_length=1, max_length=1000, description="Patterns; each must match some layer."
    )
    exclude: tuple[NamePattern, ...] = Field(
        default=(), max_length=1000, description="Patterns that win over `include`; each must match."
    )
    types: tuple[LayerType, ...] | None = Field(
        default=None,
        min_length=1,
        description="Types of layers, such as Conv2d, as the model's inspection shows them; the network must have "
        "each. Null for any.",
        examples=[["Conv2d"]],
    )
