"""The artifact `model.mpz`: a network in few bytes, without loss. Zeros of pruned layers take next to no room.

    offset  bytes  what
         0      8  magic  89 4d 50 5a 0d 0a 1a 0a  (".MPZ" and the line ends that a text-mode copy would change)
         8      2  version, 1            (integers are little-endian, unsigned)
        10      4  length of the header as stored
        14     32  SHA-256 of all that follows
        46      -  header: JSON, deflated
         -      -  the chunks of every tensor, in the header's order, nothing between them

Header: {"network": NetworkDescription, "tensors": [Tensor entry]}, the entries in the order of the state dict:

    name, dtype, shape   of the tensor
    layout               "dense"  float32: four chunks of values
                         "mask", "gaps"  float32: a chunk of positions, four chunks of the values that are not +0.0
                         "raw"    other types: one chunk, little-endian values
    kept                 number of stored values
    chunks               length of each as stored, negative when it is deflated

Chunks and layouts are `packing`'s. Values come back bit by bit, with NaNs, infinities and -0.0; per tensor, dense or
sparse is whichever is shorter. The same network always gives the same bytes. Nothing in the file is executed, and
nothing is inflated that is not asked for by the network that the header describes, which is bounded itself.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from modelpress.engine.formats.packing import (
    Chunk,
    PackingError,
    pack,
    pack_floats,
    pack_positions,
    unpack,
    unpack_floats,
    unpack_positions,
)
from modelpress.engine.formats.weights import check_shapes
from modelpress.engine.network import Network, rebuild
from modelpress.spec.config import Config
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NetworkDescription

MAGIC = b"\x89MPZ\r\n\x1a\n"
VERSION = 1
_FIXED = struct.Struct("<8sHI32s")
# 20,000 tensors, the most that a network may have, describe themselves in well under this.
_LONGEST_HEADER = 16 * 2**20

_DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")
# Chunks of each layout.
_CHUNKS: dict[str, int] = {"dense": 4, "mask": 5, "gaps": 5, "raw": 1}


Layout = Literal["dense", "mask", "gaps", "raw"]


class _Entry(Config):
    """One tensor of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    kept: int = Field(ge=0)
    chunks: tuple[int, ...]


class _Header(Config):
    network: NetworkDescription
    tensors: tuple[_Entry, ...]


def write(network: Network, path: Path) -> None:
    """Write the network. Raises InvalidModel when a tensor is of a type that the container does not know."""
    entries: list[_Entry] = []
    chunks: list[Chunk] = []
    for name, tensor in network.module.state_dict().items():
        entry, own = _pack_tensor(name, tensor.detach().cpu())
        entries.append(entry)
        chunks += own
    header = _Header(network=network.description, tensors=tuple(entries))
    stored = zlib.compress(header.model_dump_json().encode(), 9)
    digest = hashlib.sha256(stored)
    for chunk in chunks:
        digest.update(chunk.data)
    with path.open("wb") as file:
        file.write(_FIXED.pack(MAGIC, VERSION, len(stored), digest.digest()))
        file.write(stored)
        for chunk in chunks:
            file.write(chunk.data)


def read(path: Path) -> Network:
    """The network of a file that `write` made, in evaluation mode.

    Raises InvalidModel for a file that is not a compact container, is cut off, was altered, or does not hold what the
    network it describes needs.
    """
    content = memoryview(path.read_bytes())
    header, chunks = _open(content)
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


def _pack_tensor(name: str, tensor: Tensor) -> tuple[_Entry, list[Chunk]]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise InvalidModel(f"tensor {name!r} is {dtype}; the compact container takes {', '.join(_DTYPES)}")
    layout: Layout
    values = tensor.contiguous().numpy().reshape(-1)
    if dtype == "float32":
        layout, kept, chunks = _pack_values(values)
    else:
        layout, kept = "raw", values.size
        chunks = [pack(values.astype(values.dtype.newbyteorder("<")).tobytes())]
    lengths = tuple(-len(chunk.data) if chunk.deflated else len(chunk.data) for chunk in chunks)
    entry = _Entry(name=name, dtype=dtype, shape=tuple(tensor.shape), layout=layout, kept=kept, chunks=lengths)
    return entry, chunks


def _pack_values(values: npt.NDArray[np.float32]) -> tuple[Layout, int, list[Chunk]]:
    """The shortest layout for values (n,), how many of them it stores, and its chunks."""
    present = values.view(np.uint32) != 0  # by its bits: -0.0 is a value to keep
    kept = int(np.count_nonzero(present))
    if kept == values.size:
        return "dense", kept, pack_floats(values)
    way, positions = pack_positions(present)
    sparse = [positions, *pack_floats(values[present])]
    # With an eighth of zeros, positions are sure to pay: they take at most a bit a value, and save most of 32 of each.
    if kept > values.size * 7 // 8:
        dense = pack_floats(values)
        if _length(dense) <= _length(sparse):
            return "dense", values.size, dense
    return way, kept, sparse


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
        values[unpack_positions(entry.layout, chunks[0], size, entry.kept)] = unpack_floats(chunks[1:], entry.kept)
    return torch.from_numpy(values).reshape(entry.shape)


def _open(content: memoryview) -> tuple[_Header, memoryview]:
    """The header, and the bytes of all chunks."""
    if bytes(content[:8]) != MAGIC:
        raise InvalidModel("the file is not a compact container (.mpz) of ModelPress")
    if len(content) < _FIXED.size:
        raise InvalidModel("the compact container is cut off; download it again")
    _, version, length, digest = _FIXED.unpack_from(content)
    if version != VERSION:
        raise InvalidModel(f"the compact container has version {version}, this ModelPress reads {VERSION}; update it")
    body = content[_FIXED.size :]
    if hashlib.sha256(body).digest() != digest:
        raise InvalidModel("the compact container is cut off or was altered: its SHA-256 differs; download it again")
    try:
        header = _Header.model_validate_json(unpack(Chunk(True, bytes(body[:length])), _LONGEST_HEADER, exact=False))
    except (PackingError, ValidationError) as error:
        raise InvalidModel(
            "the compact container's header cannot be read; it is damaged, or a newer ModelPress wrote it"
        ) from error
    return header, body[length:]


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


def _length(chunks: Sequence[Chunk]) -> int:
    return sum(len(chunk.data) for chunk in chunks)
