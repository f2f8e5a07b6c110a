"""The fields of a spec's class as a table for the guides, so that those are held to the code.

`python -m tests.support.field_table` writes the tables anew, between their two marks, in every guide.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import modelpress.spec
from modelpress.spec.config import Config, Resource

GUIDES = Path(__file__).parents[2] / "docs/guide"
_MARKED = re.compile(r"(<!-- fields: (\w+) -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)


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


def spec_classes() -> dict[str, type[BaseModel]]:
    """Every class of the spec by its name."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(modelpress.spec.__path__, "modelpress.spec.")
    ]
    return {
        name: member
        for module in modules
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, BaseModel) and member.__module__ == module.__name__ and member not in (Config, Resource)
    }


def tables(guide: str) -> dict[str, str]:
    """The tables that a guide shows, by the names of their classes."""
    return {name: shown for _, name, shown, _ in _MARKED.findall(guide)}


def with_tables(guide: str) -> str:
    """The guide with its tables as the code has them."""
    classes = spec_classes()
    return _MARKED.sub(lambda found: f"{found[1]}{field_table(classes[found[2]])}{found[4]}", guide)


if __name__ == "__main__":
    for path in sorted(GUIDES.rglob("*.md")):
        path.write_text(with_tables(path.read_text()))
