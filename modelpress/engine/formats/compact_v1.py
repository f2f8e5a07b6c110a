"""Version 1 of the compact container, which is read and no longer written.

    46     -  header: JSON, deflated (the bytes before it are those of every version: see `compact`)
     -     -  the chunks of every tensor, in the header's order, nothing between them

Header: {"network": NetworkDescription, "tensors": [Tensor entry]}, the entries in the order of the state dict:

    name, dtype, shape   of the tensor
    layout               "dense"  float32: four chunks of values
                         "mask", "gaps"  float32: a chunk of positions, four chunks of the values that are not +0.0
                         "raw"    other types: one chunk, little-endian values
    kept                 number of stored values
    chunks               length of each as stored, negative when it is deflated

Chunks are `packing`'s. Positions of the kept values among all:

    mask   one bit per value, 1 = kept, highest bit first
    gaps   number of zeros before each kept value, as count // 255 bytes 0xff and one byte count % 255

    example: 0 0 5 0 7 -> mask 0b00101000, gaps 02 01
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from modelpress.engine.formats.packing import Chunk, PackingError, unpack, unpack_floats
from modelpress.engine.formats.weights import check_shapes
from modelpress.engine.network import Network, rebuild
from modelpress.spec.config import Config
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NetworkDescription

# 20,000 tensors, the most that a network may have, describe themselves in well under this.
_LONGEST_HEADER = 16 * 2**20
# Chunks of each layout.
_CHUNKS: dict[str, int] = {"dense": 4, "mask": 5, "gaps": 5, "raw": 1}
_ESCAPE = 255

Way = Literal["mask", "gaps"]


class _Entry(Config):
    """One tensor of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Literal["dense", "mask", "gaps", "raw"]
    kept: int = Field(ge=0)
    chunks: tuple[int, ...]


class _Header(Config):
    network: NetworkDescription
    tensors: tuple[_Entry, ...]


def read_body(stored: bytes, chunks: memoryview) -> Network:
    """The network of a header as stored and the bytes after it. Raises InvalidModel."""
    try:
        header = _Header.model_validate_json(unpack(Chunk(True, stored), _LONGEST_HEADER, exact=False))
    except (PackingError, ValidationError) as error:
        raise InvalidModel(
            "the compact container's header cannot be read; it is damaged, or a newer ModelPress wrote it"
        ) from error
    module = rebuild(header.network)
    state = module.state_dict()
    _check_tensors(module, state, header.tensors)
    if sum(abs(length) for entry in header.tensors for length in entry.chunks) != len(chunks):
        raise InvalidModel("the compact container is damaged: its tensors do not fill it; download it again")
    start = 0
    for entry in header.tensors:
        own = []
        for length in entry.chunks:
            own.append(Chunk(length < 0, bytes(chunks[start : start + abs(length)])))
            start += abs(length)
        try:
            state[entry.name].copy_(_unpack_tensor(entry, own))
        except PackingError as error:
            raise InvalidModel(
                f"the compact container is damaged at tensor {entry.name!r}: {error}; download it again"
            ) from error
    return Network(module.eval(), header.network)


def _unpack_tensor(entry: _Entry, chunks: list[Chunk]) -> Tensor:
    """The tensor of an entry whose shape and type are known to be right. Raises PackingError."""
    size = math.prod(entry.shape)
    if (
        entry.kept > size
        or len(chunks) != _CHUNKS[entry.layout]
        or (entry.layout == "raw") != (entry.dtype != "float32")
    ):
        raise PackingError("its entry in the header contradicts itself")
    if entry.layout == "raw":
        dtype = np.dtype(entry.dtype).newbyteorder("<")
        values = np.frombuffer(unpack(chunks[0], size * dtype.itemsize), dtype).astype(entry.dtype)
    elif entry.layout == "dense":
        values = unpack_floats(chunks, size)
    else:
        values = np.zeros(size, np.float32)
        values[_unpack_positions(entry.layout, chunks[0], size, entry.kept)] = unpack_floats(chunks[1:], entry.kept)
    return torch.from_numpy(values).reshape(entry.shape)


def _check_tensors(module: nn.Module, state: Mapping[str, Tensor], entries: Sequence[_Entry]) -> None:
    shapes = {entry.name: entry.shape for entry in entries}
    if len(shapes) != len(entries):
        raise InvalidModel("the compact container is damaged: a tensor comes twice; download it again")
    check_shapes(module, shapes, "the network that it describes")
    for entry in entries:
        dtype = str(state[entry.name].dtype).removeprefix("torch.")
        if entry.dtype != dtype:
            raise InvalidModel(
                f"tensor {entry.name!r} of the compact container is {entry.dtype}, the network has {dtype}"
            )


def _unpack_positions(way: Way, chunk: Chunk, size: int, count: int) -> npt.NDArray[np.intp]:
    """Positions (count,) below `size`, rising, of the kept values. Raises PackingError."""
    if way == "mask":
        packed = np.frombuffer(unpack(chunk, (size + 7) // 8), np.uint8)
        positions = np.flatnonzero(np.unpackbits(packed, count=size))
    else:
        # Each kept value has one last byte, and every escape stands for 255 zeros.
        longest = count + size // _ESCAPE
        positions = _positions(np.frombuffer(unpack(chunk, longest, exact=False), np.uint8))
    if positions.size != count:
        raise PackingError(f"{positions.size} positions where {count} values are kept")
    if count and positions[-1] >= size:
        raise PackingError(f"a position lies beyond the tensor's {size} values")
    return positions


def _positions(coded: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    ends = coded != _ESCAPE
    if coded.size and not ends[-1]:
        raise PackingError("the gaps end within one")
    zeros = np.cumsum(coded, dtype=np.intp)[ends]  # before each kept value, from the start
    positions: npt.NDArray[np.intp] = zeros + np.arange(zeros.size)
    return positions
