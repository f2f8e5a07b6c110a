"""Texts that callers name things by."""

from __future__ import annotations

from db.errors import InvalidText


def storable(field: str, text: str) -> str:
    """`text` as it is. Raises InvalidText when a database cannot store it (PostgreSQL has no U+0000 in texts)."""
    if "\x00" in text:
        raise InvalidText(field)
    return text
