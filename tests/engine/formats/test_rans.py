"""The entropy coder: exact, near the entropy, and closed to damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.formats.frequencies import TOTAL, describe, frequencies
from modelpress.engine.formats.packing import PackingError
from modelpress.engine.formats.rans import Decoder, Run, encode


def _run(seed: int, size: int, alphabet: int, groups: int) -> Run:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(alphabet, 0.3), groups)
    contexts = random.integers(0, groups, size).astype(np.uint8)
    symbols = np.array([random.choice(alphabet, p=shares[c]) for c in contexts], np.uint8)
    counts = np.stack([np.bincount(symbols[contexts == group], minlength=alphabet) for group in range(groups)])
    return Run(symbols, contexts if groups > 1 else None, frequencies(describe(counts)))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 256), st.integers(1, 4)), max_size=4),
    st.integers(1, 50),
    st.integers(0, 2**31),
)
def test_runs_come_back(shapes: list[tuple[int, int, int]], lanes: int, seed: int) -> None:
    runs = [_run(seed + index, *shape) for index, shape in enumerate(shapes)]
    decoder = Decoder(encode(runs, lanes), lanes)
    for run in runs:
        assert decoder.decode(run.symbols.size, run.contexts, run.frequencies).tolist() == run.symbols.tolist()
    decoder.finish()


@pytest.mark.parametrize("zeros", [0.3, 0.9, 0.99])
def test_the_length_is_the_entropy(zeros: float) -> None:
    random = np.random.default_rng(0)
    shares = np.array([zeros, *[(1 - zeros) / 14] * 14])
    symbols = random.choice(15, 200_000, p=shares).astype(np.uint8)
    counts = np.bincount(symbols, minlength=15)
    entropy = -(counts * np.log2(counts / symbols.size)).sum() / 8  # bytes
    coded = len(encode([Run(symbols, None, frequencies(describe(counts[None])))], lanes=8))
    assert entropy < coded < 1.006 * entropy + 8 * 4


def test_one_symbol_by_hand() -> None:
    # f = 2^13 from slot 0: x = 2^16 -> (2^16 // 2^13) * 2^14 + 0 = 2^17, no word leaves the state.
    run = Run(np.zeros(1, np.uint8), None, np.array([[TOTAL // 2, TOTAL // 2]]))
    assert encode([run], 1) == (2**17).to_bytes(4, "little")


def test_damage_is_noticed() -> None:
    run = _run(1, 3000, 16, 1)
    stored = encode([run], 4)
    for data in (stored[:-2], stored[:15], stored[:-1], stored + b"\0\0", bytes(len(stored))):
        with pytest.raises(PackingError):
            _decoded(data, run)
    for lanes in (0, 3, 5, 4097):
        with pytest.raises(PackingError):
            _decoded(stored, run, lanes)


def _decoded(data: bytes, run: Run, lanes: int = 4) -> None:
    decoder = Decoder(data, lanes)
    decoder.decode(run.symbols.size, None, run.frequencies)
    decoder.finish()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=256))
def test_frequencies_fill_the_slots(counts: list[int]) -> None:
    [found] = frequencies(describe(np.array([counts], np.int64)))
    assert found.sum() == TOTAL
    if any(counts):
        assert [f > 0 for f in found] == [count > 0 for count in counts]


def test_frequencies_follow_the_counts() -> None:
    [found] = frequencies(describe(np.array([[8000, 4000, 2000, 2000, 0]], np.int64)))
    np.testing.assert_allclose(found, np.array([8, 4, 2, 2, 0]) * TOTAL / 16, rtol=0.005)


def test_bytes_that_stand_for_no_frequency_are_refused() -> None:
    with pytest.raises(PackingError):
        frequencies(np.array([[255, 1]], np.uint8))
