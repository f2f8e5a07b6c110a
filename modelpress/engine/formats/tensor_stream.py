"""How the compact container lays down the tensors of a state dict, one after the other, in its order.

    bytes  what
        4  length of the part `sides` as stored
        -  sides: what the decoder must be told, deflated; classes of rows and columns, and frequencies, at their end
        4  length of the planes
        -  planes: bytes of float32 values that are noise (as they are) or repeat (deflated)
        -  the coded symbols of all runs (`rans`)

A float32 tensor is one of

    dense    all its values
    sparse   a run of symbols 0 and 1, which values are not +0.0; and these values
    grid     a run of symbols, the index of each weight among the grid's levels; and the levels and scales

Values of fewer than 4096 join those of all other such tensors (and levels, and scales) in one pool, so that small
tensors share their statistics. The pool, and after it each larger one, is stored as four planes of bytes (`packing`),
each of which is raw, deflated, or a run of 256 symbols. Runs come in this order: indices and masks of all tensors,
planes of the pool, planes of the larger tensors. Tensors of other types are deflated together.

A run's frequencies are those of its row's and its column's class (`contexts`), stored in a byte each (`frequencies`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelpress.engine.formats.grid_levels import StoredGrid, follows, pack_levels, read_levels, unpack_levels
from modelpress.engine.formats.packing import PackingError, from_planes, pack, planes_of, unpack
from modelpress.engine.formats.sides import PlaneReader, PlaneWriter, SideReader, SideWriter
from modelpress.engine.quantize.grid import MOST_LEVELS, Grid
from modelpress.spec.failure import InvalidModel

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")
DENSE, SPARSE, GRID = range(3)
# Values that have planes of their own; fewer join the pool.
OWN_PLANES = 4096
# Below this share of zeros, a mask would take more than it saves.
LEAST_ZEROS = 1 / 64


def pack_state(state: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> bytes:
    """The stored form of a state dict. Raises InvalidModel for a type of tensor that it does not know.

    A weight that is not on its grid bit by bit is stored as its values, without the grid.
    """
    sides, planes = SideWriter(), PlaneWriter()
    pool: list[Floats] = []
    large: list[Floats] = []
    others = b""
    for name, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise InvalidModel(f"tensor {name!r} is {dtype}; the compact container takes {', '.join(DTYPES)}")
        values = tensor.detach().cpu().contiguous().numpy()
        if dtype != "float32":
            others += values.astype(values.dtype.newbyteorder("<")).tobytes()
            continue
        flat = values.reshape(-1)
        indices = _indices(tensor.detach().cpu(), grids.get(name))
        present = flat.view(np.uint32) != 0  # by its bits: -0.0 is a value to keep
        kept = int(np.count_nonzero(present))
        if indices is not None:
            plan, numbers = pack_levels(grids[name])
            sides.plan(GRID, *plan)
            pool.append(numbers)
            sides.run(indices, len(grids[name].levels), values.shape)
            continue
        if kept < flat.size * (1 - LEAST_ZEROS):
            sides.plan(SPARSE)
            sides.run(present.astype(np.uint8), 2, values.shape)
            flat = flat[present]
        else:
            sides.plan(DENSE)
        (pool if flat.size < OWN_PLANES else large).append(flat)
    for stored in (np.concatenate([np.zeros(0, np.float32), *pool]), *large):
        for plane in planes_of(stored):
            planes.plane(sides, plane)
    sides.blob(pack(others))
    told, coded = sides.finish()
    return struct.pack("<I", len(told)) + told + struct.pack("<I", len(planes.data)) + planes.data + coded


def unpack_state(stored: memoryview, state: Mapping[str, Tensor]) -> dict[str, Grid]:
    """Fill the tensors of a state dict, in place; the grids of those that have one. Raises PackingError."""
    told, rest = _part(stored)
    content, coded = _part(rest)
    sides, planes = SideReader(told, coded), PlaneReader(content)
    entries = [_read_entry(sides, name, t) for name, t in state.items() if t.dtype == torch.float32]
    pooled = sum(entry.pooled for entry in entries)
    pool = _read_floats(sides, planes, pooled)
    grids: dict[str, Grid] = {}
    start = 0
    larger = []
    for entry in entries:
        own, start = pool[start : start + entry.pooled], start + entry.pooled
        tensor = state[entry.name]
        if entry.grid is not None and entry.symbols is not None:
            grid = grids[entry.name] = unpack_levels(entry.grid, own)
            _copy(tensor, _on_grid(grid, entry.symbols, tensor.shape))
        elif entry.pooled == entry.kept:
            _copy(tensor, _spread(entry, own))
        else:
            larger.append(entry)
    for entry in larger:
        _copy(state[entry.name], _spread(entry, _read_floats(sides, planes, entry.kept)))
    _read_others(sides, [tensor for tensor in state.values() if tensor.dtype != torch.float32])
    sides.finish()
    planes.finish()
    return grids


@dataclass(frozen=True)
class _Entry:
    """What was read of a float32 tensor before its values."""

    name: str
    symbols: Bytes | None  # of the mask, or indices
    kept: int  # values of its own
    pooled: int  # numbers that it has in the pool
    grid: StoredGrid | None = None


def _read_entry(sides: SideReader, name: str, tensor: Tensor) -> _Entry:
    layout = sides.plan(1)[0]
    size = tensor.numel()
    if layout == DENSE:
        return _Entry(name, None, size, size if size < OWN_PLANES else 0)
    if layout == SPARSE:
        mask = sides.run(size, 2, tensor.shape)
        kept = int(np.count_nonzero(mask))
        return _Entry(name, mask, kept, kept if kept < OWN_PLANES else 0)
    if layout != GRID or size == 0:
        raise PackingError(f"tensor {name!r} has a layout that is none")
    plan = sides.plan(2)
    grid = read_levels(plan, sides.plan(follows(plan)), tensor.shape)
    return _Entry(name, sides.run(size, grid.levels, tensor.shape), 0, grid.pooled, grid)


def _indices(weight: Tensor, grid: Grid | None) -> Bytes | None:
    """The level of each weight, flat; None unless these give the weight back bit by bit."""
    if grid is None or weight.ndim == 0 or weight.numel() == 0 or not 2 <= len(grid.levels) <= MOST_LEVELS:
        return None
    on_cpu = Grid(grid.levels.cpu(), grid.scales.cpu())
    indices = on_cpu.indices(weight).numpy().astype(np.uint8).reshape(-1)
    same = _on_grid(on_cpu, indices, weight.shape).view(np.uint32) == weight.contiguous().numpy().view(np.uint32)
    return indices if bool(same.all()) else None


def _on_grid(grid: Grid, indices: Bytes, shape: torch.Size) -> Floats:
    # As Grid.values, from bytes: int64 indices would take eight times the room.
    rows = grid.levels.numpy()[indices].reshape(shape[0], -1)
    values: Floats = (rows * grid.scales.numpy().reshape(-1, 1)).reshape(shape)
    return values


def _spread(entry: _Entry, values: Floats) -> Floats:
    if entry.symbols is None:
        return values
    spread = np.zeros(entry.symbols.size, np.float32)
    spread[entry.symbols != 0] = values
    return spread


def _copy(tensor: Tensor, values: npt.NDArray[np.generic]) -> None:
    tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))


def _read_floats(sides: SideReader, planes: PlaneReader, count: int) -> Floats:
    return from_planes([planes.plane(sides, count) for _ in range(4)])


def _read_others(sides: SideReader, tensors: list[Tensor]) -> None:
    dtypes = [np.dtype(str(tensor.dtype).removeprefix("torch.")) for tensor in tensors]
    sizes = [tensor.numel() * dtype.itemsize for tensor, dtype in zip(tensors, dtypes, strict=True)]
    content = unpack(sides.blob(sum(sizes)), sum(sizes))
    start = 0
    for tensor, dtype, size in zip(tensors, dtypes, sizes, strict=True):
        little = np.frombuffer(content, dtype.newbyteorder("<"), tensor.numel(), start)
        _copy(tensor, little.astype(dtype))
        start += size


def _part(stored: memoryview) -> tuple[memoryview, memoryview]:
    """What follows a length, and the rest."""
    if len(stored) < 4:
        raise PackingError("it is cut off")
    (length,) = struct.unpack_from("<I", stored)
    if length > len(stored) - 4:
        raise PackingError("a part is longer than the file")
    return stored[4 : 4 + length], stored[4 + length :]
