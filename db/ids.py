"""Names of rows: a prefix that says what it is, and hexadecimal digits that grow with time.

    mdl_ 0199f3c0a1b2 5e8d03c4b7a96f12
         |            64 random bits; within one millisecond the last id plus a random step
         milliseconds since 1970

So ids sort by age, which makes them the key of lists, and cannot be guessed from one another.
"""

from __future__ import annotations

import secrets
import threading
import time

PREFIXES = frozenset({"team", "key", "mdl", "dts", "job", "art", "ckp", "stp"})

_RANDOM_BITS = 64
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A new id with this prefix, above every id made before in this process.

    Raises KeyError for a prefix that is not in `PREFIXES`.
    """
    global _last
    if prefix not in PREFIXES:
        raise KeyError(f"{prefix!r} is not a prefix of ids; these are: {', '.join(sorted(PREFIXES))}")
    fresh = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    with _lock:
        # A step of at least one keeps the order when the clock stands still or goes back.
        _last = fresh if fresh >> _RANDOM_BITS > _last >> _RANDOM_BITS else _last + 1 + secrets.randbits(32)
        return f"{prefix}_{_last:028x}"
