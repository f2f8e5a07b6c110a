"""The fields of a spec's class as a table for the guides, so that those are held to the code."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def field_table(spec: type[BaseModel]) -> str:
    """A Markdown table of every field but `kind`: name, default, bounds and meaning; fields of a parent left out."""
    parents = {name for parent in spec.__mro__[1:] for name in getattr(parent, "model_fields", {})}
    rows = [
        f"| `{name}` | {_default(field)} | {_bounds(spec, name)} | {field.description} |"
        for name, field in spec.model_fields.items()
        if name != "kind" and name not in parents
    ]
    return "\n".join(["| field | default | bounds | meaning |", "|---|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        # Told in a table of its own; the name of an alternative is enough.
        return f"`{value.kind}`" if hasattr(value, "kind") else ""
    return f"`{json.dumps(value)}`"


def _bounds(spec: type[BaseModel], name: str) -> str:
    schema: dict[str, Any] = spec.model_json_schema()["properties"][name]
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    signs = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}
    return ", ".join(f"{sign}{schema[key]:.10g}" for key, sign in signs.items() if key in schema)
