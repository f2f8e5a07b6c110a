"""Text that both databases take."""

from __future__ import annotations

from sqlalchemy import Dialect, String
from sqlalchemy.types import TypeDecorator


class Text(TypeDecorator[str]):
    """Text, in which U+FFFD takes the place of U+0000.

    PostgreSQL refuses that character, wherever it comes from: a library's message, or a caller who asks for an id that
    is none, which is then not found.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's)
        """To the database."""
        if value is None:
            return None
        # Halves of characters, which JSON can hold, are no text either.
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
