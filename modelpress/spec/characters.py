"""Text that can be written out: JSON can hold half of a character (`\\ud800` alone), no file and no database can."""

from __future__ import annotations


def check_characters(text: str) -> None:
    """Raises ValueError when there is half of a character in a text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(
            f"there is half of a character in it, {half}, which cannot be stored; write the whole one, or leave it out"
        ) from None
