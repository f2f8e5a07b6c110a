"""Packing: exact for every bit pattern, short where it should be, and no more inflated than asked for."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelpress.engine.formats.packing import (
    Chunk,
    PackingError,
    from_planes,
    pack,
    pack_plane,
    planes_of,
    unpack,
)


@given(st.binary(max_size=10_000))
def test_bytes_come_back(raw: bytes) -> None:
    assert unpack(pack(raw), len(raw)) == raw
    assert unpack(pack_plane(np.frombuffer(raw, np.uint8)), len(raw)) == raw


@given(arrays.arrays(np.uint32, st.integers(0, 200)))
def test_every_bit_pattern_of_a_float_comes_back(bits: np.ndarray) -> None:
    assert from_planes(planes_of(bits.view(np.float32))).view(np.uint32).tolist() == bits.tolist()


def test_planes_are_those_of_the_worked_example() -> None:
    planes = planes_of(np.array([1.0, -1.0], np.float32))
    assert [plane.tobytes() for plane in planes] == [b"\x7f\x7f", b"\0\0", b"\0\0", b"\0\1"]


def test_trained_weights_lose_their_exponents() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float32)
    exponents, *mantissas = map(pack_plane, planes_of(weights))
    assert len(exponents.data) * 8 / weights.size < 3  # of 8; the entropy of a Gaussian's exponents is 2.6 bits
    assert [chunk.deflated for chunk in mantissas] == [False] * 3


def test_weights_from_half_precision_take_half_the_room() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float16).astype(np.float32)
    assert sum(len(pack_plane(plane).data) for plane in planes_of(weights)) < 0.46 * weights.nbytes


def test_inflation_stops_at_what_was_asked_for() -> None:
    bomb = Chunk(True, zlib.compress(bytes(50_000_000)))
    with pytest.raises(PackingError, match="over 1000 bytes"):
        unpack(bomb, 1000)


@pytest.mark.parametrize(
    ("chunk", "length"),
    [
        (Chunk(False, b"abc"), 4),
        (Chunk(False, b"abc"), 2),
        (Chunk(True, b"abc"), 3),
        (Chunk(True, b""), 3),
        (Chunk(True, zlib.compress(b"abc")), 4),
        (Chunk(True, zlib.compress(b"abc")[:-2]), 3),
        (Chunk(True, zlib.compress(b"abc") + b"x"), 3),
    ],
)
def test_chunks_of_another_length_are_refused(chunk: Chunk, length: int) -> None:
    with pytest.raises(PackingError):
        unpack(chunk, length)
