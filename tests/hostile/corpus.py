"""Every hostile file. A new kind is a module of `kinds` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.hostile.hostile_file import HostileFile
from tests.hostile.kinds import arrays, containers, damaged, exported, headers, images, pickles, tars, zips

SEED = 20260101

KINDS: dict[str, Callable[[int], Iterator[HostileFile]]] = {
    "pickles": pickles.files,
    "zips": zips.files,
    "headers": headers.files,
    "containers": containers.files,
    "arrays": arrays.files,
    "exported": exported.files,
    "images": images.files,
    "tars": tars.files,
    "damaged": damaged.files,
}


def corpus(seed: int = SEED) -> Iterator[HostileFile]:
    """The same files for the same seed, one after the other."""
    for files in KINDS.values():
        yield from files(seed)
