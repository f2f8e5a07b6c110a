"""Entity tags: does the caller have this version already?"""

from __future__ import annotations

import re

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def matches(if_none_match: str | None, etag: str) -> bool:
    """True when the header names this tag, by the weak comparison (RFC 9110, 8.8.3.2), or any (`*`)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in _TAG.findall(if_none_match)
