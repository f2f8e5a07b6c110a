"""Which frequencies a weight's symbol is coded with: those of its row's class and its column's class.

Pruning and quantization leave some output channels, input channels and places of a kernel with more zeros and smaller
values than others. Rows (the first dimension) fall into up to four classes, and so do columns: input channels, places
of the kernel, or both together. Each pair of classes has its own frequencies. Which class each row and column is in is
found by the encoder and stored, so that the decoder looks nothing up in what came before. Where the classes would take
more room than they save, there is only one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelpress.engine.formats.frequencies import bits, describe

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Columns = Literal["none", "channel", "position", "both"]

COLUMNS: tuple[Columns, ...] = ("none", "channel", "position", "both")
MOST_CLASSES = 4
_ROUNDS = 4
# Bits that a stored class and a stored frequency take after deflating, about: to decide by, not to decode by.
_CLASS_BITS = {1: 0.0, 2: 1.1, 4: 2.2}
_FREQUENCY_BITS = {1: 6.0, 4: 4.5}


@dataclass(frozen=True)
class Layout:
    """A tensor as rows of columns."""

    rows: int
    channels: int
    positions: int

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """Of a weight (rows, channels, positions...). What has fewer dimensions has no classes."""
        if len(shape) < 2:
            return cls(1, 1, 1)
        return cls(shape[0], shape[1], math.prod(shape[2:]))

    def columns(self, by: Columns) -> int:
        """How many columns are told apart."""
        return {
            "none": 0,
            "channel": self.channels,
            "position": self.positions,
            "both": self.channels * self.positions,
        }[by]

    def spread(self, by: Columns, classes: Bytes) -> Bytes:
        """The class of each of the (channels * positions) places in a row."""
        if by == "channel":
            return np.repeat(classes, self.positions)
        if by == "position":
            return np.tile(classes, self.channels)
        return classes if by == "both" else np.zeros(self.channels * self.positions, np.uint8)


@dataclass(frozen=True)
class Classes:
    """The classes of rows and columns, and the bytes that describe each pair's frequencies."""

    row_groups: int
    rows: Bytes  # (rows,), empty with one group
    by: Columns
    column_groups: int
    columns: Bytes  # (columns told apart,), empty with one group
    described: Bytes  # (row_groups * column_groups, alphabet)
    bits: float = 0.0  # of the symbols and all this, estimated

    def contexts(self, layout: Layout) -> Bytes | None:
        """The context of every symbol (rows * channels * positions,); None where there is only one."""
        return _contexts(layout, self.row_groups, self.rows, self.by, self.column_groups, self.columns)


def _contexts(
    layout: Layout, row_groups: int, rows: Bytes, by: Columns, column_groups: int, columns: Bytes
) -> Bytes | None:
    if row_groups * column_groups == 1:
        return None
    of_rows = rows if row_groups > 1 else np.zeros(layout.rows, np.uint8)
    of_columns = layout.spread(by if column_groups > 1 else "none", columns)
    return (of_rows[:, None] * np.uint8(column_groups) + of_columns[None, :]).reshape(-1)


def choose_classes(symbols: Bytes, alphabet: int, layout: Layout) -> Classes:
    """The classes that code symbols (n,) of a tensor in the fewest bits, of those tried."""
    none = np.zeros(0, np.uint8)
    best = _priced(symbols, alphabet, layout, 1, none, "none", 1, none)
    # Even a thousandth of a tensor's bits would not pay for classes.
    if symbols.size < 256 or best.bits < 512:
        return best
    table = symbols.reshape(layout.rows, -1)
    if layout.rows > 1:
        histograms = _histograms(table, alphabet)
        for groups in (2, MOST_CLASSES):
            rows = _cluster(histograms, groups)
            best = min(best, _priced(symbols, alphabet, layout, groups, rows, "none", 1, none), key=lambda c: c.bits)
    with_rows = best
    ways: list[tuple[Columns, Counts]] = []
    if layout.channels * layout.positions > 1:
        every = _histograms(table.T, alphabet)  # (channels * positions, alphabet)
        by_place = every.reshape(layout.channels, layout.positions, alphabet)
    if layout.channels > 1:
        ways.append(("channel", by_place.sum(axis=1)))
    if layout.positions > 1:
        ways += [("position", by_place.sum(axis=0)), ("both", every)]
    for by, histograms in ways:
        for groups in (2, MOST_CLASSES):
            columns = _cluster(histograms, groups)
            tried = _priced(symbols, alphabet, layout, with_rows.row_groups, with_rows.rows, by, groups, columns)
            best = min(best, tried, key=lambda c: c.bits)
    return best


def _priced(
    symbols: Bytes,
    alphabet: int,
    layout: Layout,
    row_groups: int,
    rows: Bytes,
    by: Columns,
    column_groups: int,
    columns: Bytes,
) -> Classes:
    contexts = _contexts(layout, row_groups, rows, by, column_groups, columns)
    groups = row_groups * column_groups
    if contexts is None:
        counts = np.bincount(symbols, minlength=alphabet)[None]
    else:
        pairs = contexts.astype(np.uint16) * np.uint16(alphabet) + symbols
        counts = np.bincount(pairs, minlength=groups * alphabet).reshape(groups, alphabet)
    counts = counts.astype(np.int64)
    side = len(rows) * _CLASS_BITS[row_groups] + len(columns) * _CLASS_BITS[column_groups]
    absent = int(np.count_nonzero(counts == 0))
    priced = []
    for coarseness, each in _FREQUENCY_BITS.items():
        described = describe(counts, coarseness)
        total = bits(counts, described) + side + absent + each * (counts.size - absent)
        priced.append(Classes(row_groups, rows, by, column_groups, columns, described, total))
    return min(priced, key=lambda classes: classes.bits)


def _histograms(table: npt.NDArray[np.uint8], alphabet: int) -> Counts:
    """How often each symbol comes in each row of a table: (rows, alphabet)."""
    found = np.zeros((len(table), alphabet), np.int64)
    for index, row in enumerate(table):
        found[index] = np.bincount(row, minlength=alphabet)
    return found


def _cluster(histograms: Counts, groups: int) -> Bytes:
    """A class for each histogram: in turns, the class that codes it shortest, and the frequencies of each class."""
    # To begin with, as many in each, ordered by the share of the commonest symbol.
    share = histograms[:, histograms.sum(axis=0).argmax()] / np.maximum(histograms.sum(axis=1), 1)
    classes = np.empty(len(histograms), np.int64)
    classes[np.argsort(share, kind="stable")] = np.arange(len(histograms)) * groups // len(histograms)
    for _ in range(_ROUNDS):
        sums = np.stack([histograms[classes == group].sum(axis=0) for group in range(groups)]) + 0.1
        lengths = np.log2(sums.sum(axis=1, keepdims=True)) - np.log2(sums)  # (groups, alphabet)
        # In whole numbers: sums of these come out the same in whatever order they are taken.
        costs = histograms @ np.rint(lengths * 1024).astype(np.int64).T
        classes = costs.argmin(axis=1)
    return classes.astype(np.uint8)
