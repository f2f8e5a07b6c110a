"""An engine that takes long to load."""

from __future__ import annotations

import time

time.sleep(60)


def main(arguments: list[str]) -> int:
    """Nothing."""
    return 0
