"""An entropy coder of bytes: many rANS states ("lanes") that numpy moves in lockstep.

Duda 2013, "Asymmetric numeral systems" (range variant); interleaved as in Giesen 2014, "Interleaved entropy coders".
A state x takes a symbol of frequency f out of 2^14, which begins at c among the slots, by

    encode:  x -> (x // f) * 2^14 + c + x % f         decode:  slot = x % 2^14, x -> f * (x // 2^14) + slot - c

and stays within 2^16 <= x < 2^32: 16-bit words leave it before it would grow beyond, and come back when it falls below.
Lane i takes the symbols i, i + lanes, i + 2 lanes ... of each run; every run begins at lane 0. What the encoder writes
last is what the decoder reads first, so that the decoder needs nothing but numpy and one pass.

    stored:  the states of all lanes, uint32;  then the words, uint16, in the order of decoding  (little-endian)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelpress.engine.formats.frequencies import PRECISION, TOTAL
from modelpress.engine.formats.packing import PackingError

Bytes = npt.NDArray[np.uint8]
Frequencies = npt.NDArray[np.int64]

MOST_LANES = 4096
_LOWEST = 2**16
# Symbols whose contexts are spread out as indices at once.
_BLOCK = 2**19


@dataclass(frozen=True)
class Run:
    """Symbols (n,) to encode: the symbol n is drawn from frequencies[contexts[n]], or [0] without contexts."""

    symbols: Bytes
    contexts: Bytes | None  # (n,)
    frequencies: Frequencies  # (contexts, alphabet), rows that sum to TOTAL


def encode(runs: list[Run], lanes: int) -> bytes:
    """The stored form of all runs, to be decoded in this order."""
    states = np.full(lanes, _LOWEST, np.uint64)
    words: list[npt.NDArray[np.uint16]] = []
    for run in reversed(runs):
        alphabet = run.frequencies.shape[1]
        frequencies = run.frequencies.astype(np.uint64).reshape(-1)
        starts = _starts(run.frequencies).astype(np.uint64).reshape(-1)
        for start in range((max(0, run.symbols.size - 1) // lanes) * lanes, -1, -lanes):
            chosen = run.symbols[start : start + lanes].astype(np.intp)
            if run.contexts is not None:
                chosen += run.contexts[start : start + lanes].astype(np.intp) * alphabet
            x, f = states[: chosen.size], frequencies[chosen]
            full = x >= f << np.uint64(32 - PRECISION)
            words.append(x[full].astype(np.uint16))
            x[full] >>= np.uint64(16)
            quotient = x // f
            x[:] = (quotient << np.uint64(PRECISION)) + starts[chosen] + x - quotient * f
    return states.astype("<u4").tobytes() + b"".join(part.astype("<u2").tobytes() for part in reversed(words))


class Decoder:
    """Reads runs out of what `encode` stored, in the same order."""

    def __init__(self, data: memoryview | bytes, lanes: int) -> None:
        """Raises PackingError when `data` cannot be of so many lanes."""
        if not 1 <= lanes <= MOST_LANES or len(data) < 4 * lanes or len(data) % 2:
            raise PackingError("the coded symbols are cut off")
        self._states = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
        self._words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint32)
        self._next = 0
        if self._states.min() < _LOWEST:
            raise PackingError("the coded symbols begin with a state that cannot be")

    def decode(self, size: int, contexts: Bytes | None, frequencies: Frequencies) -> Bytes:
        """The next run of `size` symbols. Raises PackingError when the words do not last."""
        groups, alphabet = frequencies.shape
        if contexts is None and int(frequencies.max()) == TOTAL:  # one symbol only, which takes no bits
            return np.full(size, frequencies[0].argmax(), np.uint8)
        lanes = self._states.size
        # For each slot of each context, which of all (context, symbol) it belongs to.
        owner = np.repeat(np.arange(groups * alphabet), frequencies.reshape(-1))
        flat, starts = frequencies.reshape(-1).astype(np.uint32), _starts(frequencies).reshape(-1).astype(np.uint32)
        symbol_of = np.tile(np.arange(alphabet, dtype=np.uint8), groups)
        decoded = np.empty(size, np.uint8)
        block = max(1, _BLOCK // lanes) * lanes
        for first in range(0, size, block):
            last = min(size, first + block)
            owners = np.empty(last - first, np.intp)
            base = None if contexts is None else contexts[first:last].astype(np.intp) << PRECISION
            for start in range(0, last - first, lanes):
                stop = min(start + lanes, last - first)
                self._step(owners[start:stop], None if base is None else base[start:stop], owner, flat, starts)
            decoded[first:last] = symbol_of[owners]
        return decoded

    def _step(
        self,
        owners: npt.NDArray[np.intp],
        base: npt.NDArray[np.intp] | None,
        owner: npt.NDArray[np.intp],
        frequencies: npt.NDArray[np.uint32],
        starts: npt.NDArray[np.uint32],
    ) -> None:
        """One symbol of each lane."""
        x = self._states[: owners.size]
        slots = x & np.uint32(TOTAL - 1)
        owner.take(slots if base is None else base + slots, out=owners, mode="clip")
        x >>= np.uint32(PRECISION)
        x *= frequencies.take(owners)
        x += slots
        x -= starts.take(owners)
        low = (x < _LOWEST).nonzero()[0]
        if low.size:
            words = self._words[self._next : self._next + low.size]
            if words.size < low.size:
                raise PackingError("the coded symbols are cut off")
            self._next += low.size
            x[low] = (x[low] << np.uint32(16)) | words

    def finish(self) -> None:
        """Raises PackingError unless all was read, and the states are those that the encoder began with."""
        if self._next != self._words.size or bool((self._states != _LOWEST).any()):
            raise PackingError("the coded symbols do not end where they should")


def _starts(frequencies: Frequencies) -> Frequencies:
    """The slots below each symbol's own, by context."""
    starts: Frequencies = np.cumsum(frequencies, axis=1) - frequencies
    return starts
