"""Arrays as few bytes, without loss: chunks and planes of the compact container.

A *chunk* is a run of bytes that is deflated (zlib, RFC 1950) where that makes it shorter.

float32 values: the 32 bits of each are turned left by one, so that the exponent is a byte of its own and the sign comes
last, and the four bytes go into four "planes", exponents first. Trained weights lie within a few powers of two, so that
the exponents shrink to about 3 bits; mantissas are noise, and stay as they are - unless the weights come from half
precision, whose missing bits shrink to nothing.

    example: 1.0 = 0x3f800000 -> turned 0x7f000000 -> planes 7f | 00 | 00 | 00
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

# Above this entropy in bits per byte, deflating is not tried: it would gain under 2%, and mantissas are most bytes.
_NOISE = 7.85
# Below this one, runs of equal bytes are worth finding; above it, Huffman codes alone do as well and are far faster.
_RUNS = 1.0


@dataclass(frozen=True)
class Chunk:
    """A run of bytes as it is stored."""

    deflated: bool
    data: bytes


class PackingError(ValueError):
    """Stored bytes do not stand for what they should."""


def pack(raw: bytes) -> Chunk:
    """The shortest chunk for `raw`, repeats looked for."""
    return _shortest(raw, _deflate(raw, zlib.Z_HUFFMAN_ONLY), _deflate(raw, zlib.Z_DEFAULT_STRATEGY))


def pack_plane(plane: Bytes) -> Chunk:
    """A chunk for bytes (n,) that are drawn one by one rather than repeated: quicker than `pack` for millions."""
    raw = plane.tobytes()
    entropy = _entropy(plane)
    if entropy > _NOISE:
        return Chunk(False, raw)
    return _shortest(raw, _deflate(raw, zlib.Z_HUFFMAN_ONLY if entropy > _RUNS else zlib.Z_RLE))


def unpack(chunk: Chunk, length: int, exact: bool = True) -> bytes:
    """The bytes of a chunk: exactly `length`, or at most that many. Never inflates beyond; raises PackingError."""
    raw = chunk.data
    if chunk.deflated:
        inflater = zlib.decompressobj()
        try:
            raw = inflater.decompress(chunk.data, length + 1)
        except zlib.error as error:
            raise PackingError(f"a chunk cannot be inflated ({error})") from error
        if len(raw) <= length and (not inflater.eof or inflater.unused_data):
            raise PackingError("a deflated chunk does not end where it should")
    if len(raw) > length or (exact and len(raw) != length):
        raise PackingError(
            f"a chunk holds {'over ' if len(raw) > length else ''}{min(len(raw), length)} bytes, not {length}"
        )
    return raw


def planes_of(values: npt.NDArray[np.float32]) -> list[Bytes]:
    """Four planes for float32 values (n,), bit by bit: exponents, then mantissas from high to low."""
    bits = values.view(np.uint32)
    turned = (bits << np.uint32(1)) | (bits >> np.uint32(31))
    return [(turned >> np.uint32(shift)).astype(np.uint8) for shift in (24, 16, 8, 0)]


def from_planes(planes: list[Bytes]) -> npt.NDArray[np.float32]:
    """The float32 values (n,) of four planes (n,)."""
    turned = np.zeros(planes[0].size, np.uint32)
    for plane, shift in zip(planes, (24, 16, 8, 0), strict=True):
        turned |= plane.astype(np.uint32) << np.uint32(shift)
    return ((turned >> np.uint32(1)) | (turned << np.uint32(31))).view(np.float32)


def unpack_floats(chunks: list[Chunk], count: int) -> npt.NDArray[np.float32]:
    """The float32 values (count,) of four chunks. Raises PackingError."""
    return from_planes([np.frombuffer(unpack(chunk, count), np.uint8) for chunk in chunks])


def _shortest(raw: bytes, *tries: bytes) -> Chunk:
    best = min(tries, key=len)
    return Chunk(True, best) if len(best) < len(raw) else Chunk(False, raw)


def _deflate(raw: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return deflater.compress(raw) + deflater.flush()


def _entropy(plane: Bytes) -> float:
    """Order-0 entropy in bits per byte."""
    shares = np.bincount(plane, minlength=256) / max(1, plane.size)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())
