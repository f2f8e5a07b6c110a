"""The side information of the compact container: what the decoder must be told before it can decode.

    2  lanes of the coder        4  length of the plan as stored        4  length of the classes as stored
    -  plan: layouts, alphabets, lengths, in the order in which the decoder asks for them; deflated
    -  classes of rows and columns of all runs, a byte each; deflated
    -  frequencies of all runs, a byte each; deflated

The three are apart since each deflates best alone. A run is told by one byte, rows | by << 2 | columns << 4: rows and
columns are 0, 1, 2 for 1, 2, 4 classes, `by` says which columns (`contexts.COLUMNS`).

The readers inflate as much as is asked for and no more, which follows from the network that the file describes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelpress.engine.formats.contexts import COLUMNS, Classes, Layout, choose_classes
from modelpress.engine.formats.frequencies import frequencies
from modelpress.engine.formats.packing import Chunk, PackingError, pack_plane, unpack
from modelpress.engine.formats.rans import MOST_LANES, Decoder, Run, encode

Bytes = npt.NDArray[np.uint8]

_FIXED = struct.Struct("<HII")
_GROUPS = (1, 2, 4)
RAW, DEFLATED, CODED = range(3)
# Lanes cost four bytes each, a 400th of what is coded at the most; or as many as keep the decoder's steps to this.
_LANE_SHARE = 400
_MOST_STEPS = 50_000


class SideWriter:
    """Gathers what the decoder must be told, and the runs that it will decode."""

    def __init__(self) -> None:
        self._plan = bytearray()
        self._classes = bytearray()
        self._frequencies = bytearray()
        self._runs: list[Run] = []
        self._bits = 0.0

    def plan(self, *values: int) -> None:
        """Bytes of the plan."""
        self._plan += bytes(values)

    def run(self, symbols: Bytes, alphabet: int, shape: Sequence[int]) -> None:
        """Symbols (n,) of a tensor of this shape, each below `alphabet`, to be coded."""
        layout = Layout.of(shape)
        self.chosen(symbols, choose_classes(symbols, alphabet, layout), layout)

    def chosen(self, symbols: Bytes, classes: Classes, layout: Layout) -> None:
        """As `run`, with classes that were found already."""
        rows, columns = _GROUPS.index(classes.row_groups), _GROUPS.index(classes.column_groups)
        self.plan(rows | COLUMNS.index(classes.by) << 2 | columns << 4)
        self._classes += classes.rows.tobytes() + classes.columns.tobytes()
        self._frequencies += classes.described.tobytes()
        self._runs.append(Run(symbols, classes.contexts(layout), frequencies(classes.described)))
        self._bits += classes.bits

    def blob(self, chunk: Chunk) -> None:
        """A chunk that lies in the plan."""
        self._plan += struct.pack("<BI", DEFLATED if chunk.deflated else RAW, len(chunk.data)) + chunk.data

    def finish(self) -> tuple[bytes, bytes]:
        """The side information as stored, and the coded symbols."""
        size = sum(run.symbols.size for run in self._runs)
        lanes = max(1, int(self._bits / 8) // (4 * _LANE_SHARE), size // _MOST_STEPS)
        lanes = min(MOST_LANES, lanes)
        plan, classes, told = (zlib.compress(part, 9) for part in (self._plan, self._classes, self._frequencies))
        return _FIXED.pack(lanes, len(plan), len(classes)) + plan + classes + told, encode(self._runs, lanes)


class SideReader:
    """Gives back what a SideWriter gathered, in the same order."""

    def __init__(self, told: memoryview, coded: memoryview) -> None:
        """Raises PackingError when a part is cut off."""
        if len(told) < _FIXED.size:
            raise PackingError("its side information is cut off")
        lanes, plan, classes = _FIXED.unpack_from(told)
        parts = told[_FIXED.size :]
        self._plan = _Inflater(parts[:plan])
        self._classes = _Inflater(parts[plan : plan + classes])
        self._frequencies = _Inflater(parts[plan + classes :])
        self._decoder = Decoder(coded, lanes)

    def plan(self, count: int) -> bytes:
        """So many bytes of the plan."""
        return self._plan.read(count)

    def run(self, size: int, alphabet: int, shape: Sequence[int]) -> Bytes:
        """The next symbols (size,) of a tensor of this shape."""
        layout = Layout.of(shape)
        (how,) = self.plan(1)
        rows, by, columns = how & 3, COLUMNS[how >> 2 & 3], how >> 4
        if rows > 2 or columns > 2 or (rows and layout.rows < 2) or (columns and layout.columns(by) < 2):
            raise PackingError("a run has classes of rows or columns that are not there")
        row_groups, column_groups = _GROUPS[rows], _GROUPS[columns]
        of_rows = self._read_classes(layout.rows, row_groups)
        of_columns = self._read_classes(layout.columns(by), column_groups)
        told = self._frequencies.read(row_groups * column_groups * alphabet)
        described = np.frombuffer(told, np.uint8).reshape(-1, alphabet)
        found = Classes(row_groups, of_rows, by, column_groups, of_columns, described)
        return self._decoder.decode(size, found.contexts(layout), frequencies(described))

    def blob(self, most: int) -> Chunk:
        """A chunk that lies in the plan, of `most` bytes at the most. Raises PackingError."""
        deflated, length = struct.unpack("<BI", self.plan(5))
        if length > most:
            raise PackingError("its side information has more bytes than its tensors")
        return Chunk(deflated == DEFLATED, self.plan(length))

    def finish(self) -> None:
        """Raises PackingError unless everything was read."""
        for part in (self._plan, self._classes, self._frequencies):
            part.finish()
        self._decoder.finish()

    def _read_classes(self, count: int, groups: int) -> Bytes:
        if groups == 1:
            return np.zeros(0, np.uint8)
        classes = np.frombuffer(self._classes.read(count), np.uint8)
        if int(classes.max()) >= groups:
            raise PackingError("a row or a column is in a class that is not there")
        return classes


class PlaneWriter:
    """Gathers planes of bytes, the shortest of: raw, deflated, coded."""

    def __init__(self) -> None:
        self.data = bytearray()

    def plane(self, sides: SideWriter, plane: Bytes) -> None:
        """Bytes (n,)."""
        chunk = pack_plane(plane)
        if chunk.deflated:
            layout = Layout.of(())
            classes = choose_classes(plane, 256, layout)
            if classes.bits / 8 < len(chunk.data):
                sides.plan(CODED)
                sides.chosen(plane, classes, layout)
                return
            sides.plan(DEFLATED, *struct.pack("<I", len(chunk.data)))
        else:
            sides.plan(RAW)
        self.data += chunk.data


class PlaneReader:
    """Gives back the planes of a PlaneWriter."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def plane(self, sides: SideReader, count: int) -> Bytes:
        """The next plane (count,). Raises PackingError."""
        (kind,) = sides.plan(1)
        if kind == CODED:
            return sides.run(count, 256, ())
        if kind not in (RAW, DEFLATED):
            raise PackingError("a plane is stored in a way that is none")
        length = count if kind == RAW else struct.unpack("<I", sides.plan(4))[0]
        if length > len(self._data):
            raise PackingError("a plane is cut off")
        chunk = Chunk(kind == DEFLATED, bytes(self._data[:length]))
        self._data = self._data[length:]
        return np.frombuffer(unpack(chunk, count), np.uint8)

    def finish(self) -> None:
        """Raises PackingError unless all planes were read."""
        if len(self._data):
            raise PackingError("more planes are stored than its tensors have")


class _Inflater:
    """Deflated bytes, inflated as they are asked for."""

    def __init__(self, stored: memoryview) -> None:
        self._inflater, self._stored = zlib.decompressobj(), bytes(stored)

    def read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._inflate(count - len(parts))
            if not part:
                raise PackingError("its side information is cut off")
            parts += part
        return bytes(parts)

    def finish(self) -> None:
        if self._inflate(1) or not self._inflater.eof or self._inflater.unused_data:
            raise PackingError("its side information does not end where it should")

    def _inflate(self, most: int) -> bytes:
        try:
            part = self._inflater.decompress(self._stored, most)
        except zlib.error as error:
            raise PackingError(f"its side information cannot be inflated ({error})") from error
        self._stored = self._inflater.unconsumed_tail
        return part
