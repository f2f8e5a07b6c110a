"""Side information: what was told comes back, and no more is inflated than is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from modelpress.engine.formats.packing import Chunk, PackingError
from modelpress.engine.formats.sides import SideReader, SideWriter


def _reader(writer: SideWriter) -> SideReader:
    told, coded = writer.finish()
    return SideReader(memoryview(told), memoryview(coded))


def test_what_was_told_comes_back() -> None:
    writer = SideWriter()
    random = np.random.default_rng(0)
    # Half of the rows are nearly empty, so that classes pay.
    symbols = (random.random((64, 256)) < np.where(np.arange(64) % 2, 0.6, 0.02)[:, None]).astype(np.uint8)
    writer.plan(1, 2)
    writer.run(symbols.reshape(-1), 2, (64, 256))
    writer.blob(Chunk(False, b"abc"))
    reader = _reader(writer)
    assert reader.plan(2) == b"\x01\x02"
    assert (reader.run(symbols.size, 2, (64, 256)) == symbols.reshape(-1)).all()
    assert reader.blob(3) == Chunk(False, b"abc")
    reader.finish()


def test_nothing_is_inflated_that_is_not_asked_for() -> None:
    writer = SideWriter()
    writer.blob(Chunk(False, bytes(50_000_000)))
    reader = _reader(writer)
    with pytest.raises(PackingError, match="more bytes than its tensors"):
        reader.blob(100)


def test_what_is_left_over_is_refused() -> None:
    writer = SideWriter()
    writer.plan(1, 2)
    reader = _reader(writer)
    reader.plan(1)
    with pytest.raises(PackingError, match="does not end"):
        reader.finish()


@pytest.mark.parametrize("how", [0b000011, 0b000001, 0b010000, 0b110100])
def test_classes_of_what_is_not_there_are_refused(how: int) -> None:
    writer = SideWriter()
    writer.plan(how)
    reader = _reader(writer)
    with pytest.raises(PackingError, match="not there"):
        reader.run(5, 2, (5,))
