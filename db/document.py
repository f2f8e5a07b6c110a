"""A column that holds one object of the spec as JSON and gives it back typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator

T = TypeVar("T")


class Document(TypeDecorator[T]):
    """An object of the spec.

    The plain JSON type, not PostgreSQL's binary one: that refuses the character U+0000, which a name of a layer or a
    message of a library may hold.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, adapter: TypeAdapter[T], unless: tuple[tuple[str, Any], ...] = ()) -> None:
        """`unless`: fields that are left out where they have this value, their default.

        By their paths, with dots between, and `*` for each item of a list. For fields of what is asked for, where an
        unknown one is an error: processes of the version before read on.
        """
        super().__init__()
        self.adapter, self.unless = adapter, unless

    def process_bind_param(self, value: T | None, dialect: Dialect) -> Any:  # noqa: ARG002 (SQLAlchemy's signature)
        """To the database."""
        if value is None:
            return None
        document = json.loads(self.adapter.dump_json(value))
        for path, default in self.unless:
            _drop(document, path.split("."), default)
        return document

    def process_result_value(self, value: Any, dialect: Dialect) -> T | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """From the database. Raises pydantic's ValidationError when it holds what the spec does not know."""
        return None if value is None else self.adapter.validate_python(value)


def _drop(document: Any, path: Sequence[str], default: Any) -> None:
    name, *below = path
    if name == "*" and isinstance(document, list):
        for item in document:
            _drop(item, below, default)
    elif isinstance(document, dict) and name in document:
        if below:
            _drop(document[name], below, default)
        elif document[name] == default:
            del document[name]
