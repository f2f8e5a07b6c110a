"""Good files cut off at every boundary of their format, and changed at random."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.hostile import good
from tests.hostile.hostile_file import HostileFile

_MOST_CUTS = 40


def files(seed: int, mutations: int = 40) -> Iterator[HostileFile]:
    """Cuts, and so many mutations of each good file."""
    for form, (door, whole) in good.all_good().items():
        # Each form has draws of its own: a `.pt2` is as long as the path that its code lies in.
        draw = random.Random(f"{seed} {form}")  # noqa: S311
        for cut in _cuts(whole, draw):
            # A tar's end is padding, and so is a stream's after its last block: nothing is missing there.
            may_be_taken = "tar" in form and cut > len(whole) // 8
            yield HostileFile(f"damaged/{form} cut at {cut}", door, whole[:cut], may_be_taken)
        for number in range(mutations):
            yield HostileFile(f"damaged/{form} mutation {number}", door, _mutated(whole, draw), may_be_taken=True)


def _cuts(whole: bytes, draw: random.Random) -> list[int]:
    """Before, at and behind each record's beginning, and each of the last bytes."""
    marks = {0, 1, 4, 8, len(whole) // 2, len(whole) - 1, len(whole) - 2, len(whole) - 21, len(whole) - 22}
    starts = [at for at in range(len(whole)) if whole[at : at + 2] == b"PK"]
    starts += list(range(0, len(whole), 512)) if whole[257:262] == b"ustar" else []
    if whole[8:9] == b"{":
        starts.append(8 + int.from_bytes(whole[:8], "little"))
    for start in draw.sample(starts, min(len(starts), _MOST_CUTS // 3)):
        marks |= {start - 1, start, start + 1, start + 30}
    return sorted(mark for mark in marks if 0 <= mark < len(whole))


def _mutated(whole: bytes, draw: random.Random) -> bytes:
    changed = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        at, length = draw.randrange(len(changed)), draw.choice((1, 2, 4, 8, 64))
        what = draw.randrange(6)
        if what == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif what == 1:
            changed[at : at + length] = draw.randbytes(length)
        elif what == 2:
            changed[at : at + length] = draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * length
        elif what == 3:
            del changed[at : at + length]
        elif what == 4:
            changed[at:at] = draw.randbytes(length)
        else:
            source = draw.randrange(len(changed))
            changed[at : at + length] = changed[source : source + length]
        if not changed:
            return b"\x00"
    return bytes(changed)
