"""What every part of a spec has in common: it is frozen, and an unknown field is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of everything that a caller may ask for: immutable, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resource(BaseModel):
    """Base of everything that comes back. Unknown fields are ignored, so that an old client reads a newer server.

    A loss that diverged is written as the text "NaN" or "Infinity", which JSON has no number for, and read back so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")
