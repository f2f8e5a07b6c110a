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
    pack,
    pack_floats,
    pack_plane,
    pack_positions,
    unpack,
    unpack_floats,
    unpack_positions,
)


@given(st.binary(max_size=10_000))
def test_bytes_come_back(raw: bytes) -> None:
    assert unpack(pack(raw), len(raw)) == raw
    assert unpack(pack_plane(np.frombuffer(raw, np.uint8)), len(raw)) == raw


@given(arrays.arrays(np.uint32, st.integers(0, 200)))
def test_every_bit_pattern_of_a_float_comes_back(bits: np.ndarray) -> None:
    chunks = pack_floats(bits.view(np.float32))
    assert unpack_floats(chunks, bits.size).view(np.uint32).tolist() == bits.tolist()


def test_planes_are_those_of_the_worked_example() -> None:
    chunks = pack_floats(np.array([1.0, -1.0], np.float32))
    assert [chunk.data for chunk in chunks] == [b"\x7f\x7f", b"\0\0", b"\0\0", b"\0\1"]


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(0, 3000))
def test_positions_come_back(gaps: list[int], tail: int) -> None:
    kept = np.zeros(sum(gaps) + len(gaps) + tail, bool)
    kept[np.cumsum(np.array(gaps, int) + 1) - 1] = True
    way, chunk = pack_positions(kept)
    assert unpack_positions(way, chunk, kept.size, len(gaps)).tolist() == np.flatnonzero(kept).tolist()


def test_positions_are_those_of_the_worked_example() -> None:
    mask, gaps = Chunk(False, bytes([0b00101000])), Chunk(False, b"\x02\x01")
    assert unpack_positions("mask", mask, 5, 2).tolist() == [2, 4]
    assert unpack_positions("gaps", gaps, 5, 2).tolist() == [2, 4]
    assert unpack_positions("gaps", Chunk(False, b"\xff\xff\x03\xff\x00"), 800, 2).tolist() == [513, 769]


@pytest.mark.parametrize(
    ("density", "most_bits"), [(0.5, 1.01), (0.25, 0.85), (0.125, 0.6), (0.02, 0.15), (0.005, 0.05)]
)
def test_positions_take_little_more_than_their_entropy(density: float, most_bits: float) -> None:
    # Entropies: 1, 0.811, 0.544, 0.141 and 0.045 bits per weight.
    kept = np.random.default_rng(0).random(400_000) < density
    assert len(pack_positions(kept)[1].data) * 8 / kept.size < most_bits


def test_trained_weights_lose_their_exponents() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float32)
    exponents, *mantissas = pack_floats(weights)
    assert len(exponents.data) * 8 / weights.size < 3  # of 8; the entropy of a Gaussian's exponents is 2.6 bits
    assert [chunk.deflated for chunk in mantissas] == [False] * 3


def test_weights_from_half_precision_take_half_the_room() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float16).astype(np.float32)
    assert sum(len(chunk.data) for chunk in pack_floats(weights)) < 0.46 * weights.nbytes


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


@pytest.mark.parametrize(
    ("way", "data", "size", "count"),
    [
        ("mask", b"\xff", 5, 4),
        ("mask", b"\xff", 5, 6),
        ("mask", b"\xff\xff", 5, 5),
        ("gaps", b"\x05", 5, 1),
        ("gaps", b"\x00\x00", 5, 1),
        ("gaps", b"\x00", 5, 2),
        ("gaps", b"\xff", 600, 0),
        ("gaps", b"\x00\xff", 600, 1),
        ("gaps", b"\xff\xff\xff\xff\x00", 600, 1),
    ],
)
def test_positions_that_contradict_the_tensor_are_refused(way: str, data: bytes, size: int, count: int) -> None:
    with pytest.raises(PackingError):
        unpack_positions(way, Chunk(False, data), size, count)
