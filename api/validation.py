"""From a validator's errors to sentences for whoever wrote the request.

The validator says where by the path it took, with the kind of a step in the middle (`steps.0.prune.sparsity`), and
says what in its own terms. Both are rewritten along the JSON Schema of what was validated.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from modelpress.spec.resources import FieldError

Node = Mapping[str, Any]

_MOST_ERRORS = 50
_MOST_SHOWN = 60

_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_TYPES = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
}


def field_errors(model: type[BaseModel] | None, errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Each error with its place and what to do. `model` is what was validated, None where that is a single value.

    The first element of an error's place says which part of the request it is (`body`, `query`, ...), and is left out.
    """
    root = _schema(model) if model else {}
    return [_field_error(root, error) for error in errors[:_MOST_ERRORS] if not _follows(error, errors)]


def _follows(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """True for a list said to be too short only because its entries are wrong, which is said already."""
    place = error["loc"]
    return error["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in errors
    )


def _field_error(root: Node, error: Mapping[str, Any]) -> FieldError:
    part, *place = error["loc"]
    context = error.get("ctx", {})
    if error["type"] == "json_invalid":
        return FieldError(
            where="body", message=f"this is not JSON: {context.get('error')}, at character {place[0] if place else 0}"
        )
    where, parent, node = _walk(root, place)
    kinds = [repr(tag) for tag in node.get("discriminator", {}).get("mapping", {})]
    match error["type"]:
        case "missing":
            message = "it is required" if place else f"the {part} is missing"
        case "extra_forbidden":
            message = _unknown(str(place[-1]), list(parent.get("properties", {})))
        case "union_tag_not_found":
            where, message = [*where, "kind"], f"it is required, and is one of {', '.join(kinds)}"
        case "union_tag_invalid":
            where = [*where, "kind"]
            message = f"there is no kind {_shown(context['tag'])}; it is one of {context['expected_tags']}"
        case "literal_error" | "enum":
            message = f"it must be {context['expected']}{_but(error)}"
        case "value_error":
            message = str(error["msg"]).removeprefix("Value error, ")
        case "model_type" | "model_attributes_type" | "dict_type":
            message = "it must be an object of fields and values"
        case "too_short" | "string_too_short":
            message = f"it must have at least {context['min_length']} {_unit(error)}"
        case "too_long" | "string_too_long":
            message = f"it must have at most {context['max_length']} {_unit(error)}"
        case kind if kind in _BOUNDS:
            key, word = _BOUNDS[kind]
            message = f"it must be {word} {context[key]:g}{_but(error)}"
        case kind if kind in _TYPES:
            message = f"it must be {_TYPES[kind]}{_but(error)}"
        case _:
            text = str(error["msg"]).replace("Input should", "it should", 1)
            message = f"{text[:1].lower()}{text[1:]}{_but(error)}"
    return FieldError(where=".".join(where) or str(part), message=message)


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return "there is no such field"
    fields = f"he fields here are {', '.join(f'`{field}`' for field in known)}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"there is no such field; {f'did you mean `{near[0]}`? T' if near else 't'}{fields}"


def _unit(error: Mapping[str, Any]) -> str:
    return "characters" if str(error["type"]).startswith("string") else "entries"


def _but(error: Mapping[str, Any]) -> str:
    shown = _shown(error.get("input"))
    if error["loc"][0] != "body":
        # Everything in a query is text; quotes would say nothing.
        shown = shown.strip('"')
    return f", not {shown}" if shown else ""


def _shown(value: Any) -> str:
    # Only short plain values: what was sent may be large, or secret.
    if value is None or isinstance(value, bool | int | float | str):
        text = json.dumps(value)
        return text if len(text) <= _MOST_SHOWN else ""
    return ""


@cache
def _schema(model: type[BaseModel]) -> Node:
    return model.model_json_schema()


def _walk(root: Node, place: Sequence[str | int]) -> tuple[list[str], Node, Node]:
    """The place as the caller knows it, the schema that holds its last element, and the schema of that."""
    where: list[str] = []
    parent: Node = {}
    node = _resolved(root, root)
    for part in place:
        mapping = node.get("discriminator", {}).get("mapping", {})
        if part in mapping:
            node = _resolved(root, {"$ref": mapping[part]})
            continue
        if "oneOf" in node and not mapping:
            # Alternatives of which one has no `kind` (a student that is named by its architecture).
            choices = [_resolved(root, choice) for choice in node["oneOf"]]
            kinds = [choice.get("properties", {}).get("kind", {}).get("const") for choice in choices]
            node = choices[kinds.index(part if part in kinds else None)]
            continue
        where.append(str(part))
        parent = node
        if isinstance(part, int):
            inner = node.get("items", {})
        else:
            inner = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        node = _resolved(root, inner if isinstance(inner, dict) else {})
    return where, parent, node


def _resolved(root: Node, node: Node) -> Node:
    while True:
        if "$ref" in node:
            node = root["$defs"][str(node["$ref"]).rpartition("/")[2]]
            continue
        others = [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]
        if len(others) != 1:
            return node
        node = others[0]
