"""How much a compressed archive may unpack to: a few kilobytes can hold gigabytes, and reading them takes minutes."""

from __future__ import annotations

from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_EXPANSION, MIN_EXPANDED_BYTES
from modelpress.spec.failure import InvalidDataset


def check_expansion(unpacked: int, stored: int) -> None:
    """Raises InvalidDataset when an archive of `stored` bytes unpacks to more than any set of images does."""
    if unpacked > _most(stored):
        raise InvalidDataset(
            f"the archive of {stored:,} bytes unpacks to more than {_most(stored):,}, which pictures do not; "
            "pack the image files, uncompressed ones as PNG"
        )


def _most(stored: int) -> int:
    # Headers of members and padding come on top of the images.
    return min(max(MIN_EXPANDED_BYTES, MAX_EXPANSION * stored), 2 * MAX_DECODED_BYTES)
