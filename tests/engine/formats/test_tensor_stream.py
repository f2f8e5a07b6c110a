"""Tensors of the compact container: exact, with their grids, and near the entropy of what they hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelpress.engine.formats.grid_levels import StoredGrid, read_levels, unpack_levels
from modelpress.engine.formats.packing import PackingError
from modelpress.engine.formats.tensor_stream import pack_state, unpack_state
from modelpress.engine.quantize.grid import Grid


def back(state: dict[str, Tensor], grids: dict[str, Grid] | None = None) -> dict[str, Grid]:
    """The grids that come back; every tensor has to, bit by bit, and the stored bytes again from both."""
    stored = pack_state(state, grids or {})
    read = {name: torch.full_like(tensor, 1) for name, tensor in state.items()}
    found = unpack_state(memoryview(stored), read)
    for name, tensor in state.items():
        assert read[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name
    assert pack_state(read, found) == stored
    return found


patterns = st.one_of(st.sampled_from([0, 0x80000000, 0x7F800000, 0x7FC00001, 0x3F800000]), st.integers(0, 2**32 - 1))


@settings(max_examples=25, deadline=None)
@given(st.lists(patterns, max_size=300), st.integers(0, 3), st.sampled_from([0, 2, 40]))
def test_every_bit_of_a_float_comes_back(bits: list[int], axis: int, spread: int) -> None:
    # Spread apart, so that all layouts come up; zeros of both signs, NaNs with payloads and infinities among them.
    values = np.zeros(len(bits) * (spread + 1), np.uint32)
    values[:: spread + 1] = bits
    shape = [1, 1, 1]
    shape.insert(axis, values.size)
    back({"weight": torch.from_numpy(values.view(np.float32)).reshape(shape)})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(2**62 + 1),
        torch.tensor([-1, 2], dtype=torch.int32),
        torch.tensor([-1, 2], dtype=torch.int16),
        torch.tensor([[-1, 2]], dtype=torch.int8),
        torch.arange(256, dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.zeros(0, dtype=torch.int64),
        torch.tensor(float("nan")),
        torch.zeros(3, 4).t(),
        torch.zeros(100, 100),
        torch.randn(5000, generator=torch.Generator().manual_seed(0)),
    ],
    ids=lambda tensor: f"{tensor.dtype}{list(tensor.shape)}",
)
def test_other_types_and_shapes_come_back(tensor: Tensor) -> None:
    back({"a": torch.ones(2, 3), "it": tensor, "b": torch.tensor(3)})


def planted(shape: tuple[int, ...], levels: int, zeros: float, seed: int, codebook: bool) -> tuple[Tensor, Grid]:
    """A weight drawn from a grid, with so many zeros more."""
    generator = torch.Generator().manual_seed(seed)
    if codebook:
        values = torch.randn(levels, generator=generator).sort().values
        values[levels // 2] = 0
        grid = Grid(values.unique(), torch.ones(1))
    else:
        values = torch.arange(levels).float() - levels // 2
        grid = Grid(values, torch.rand(shape[0], generator=generator) + 0.1)
    indices = torch.randint(0, len(grid.levels), shape, generator=generator)
    zero = int((grid.levels == 0).nonzero()[0]) if bool((grid.levels == 0).any()) else 0
    indices[torch.rand(shape, generator=generator) < zeros] = zero
    return grid.values(indices), grid


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(1, 1), (7, 5), (8, 3, 3, 3), (40, 30), (5, 0), (0, 3), (1, 300), (300, 1), (9,), (32, 16, 3, 3)]),
    st.sampled_from([2, 3, 4, 15, 16, 255, 256]),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_grids_come_back(shape: tuple[int, ...], levels: int, zeros: float, codebook: bool, seed: int) -> None:
    weight, grid = planted(shape, levels, zeros, seed, codebook)
    if bool(((weight == 0) & weight.signbit()).any()):
        weight = weight + 0.0
    found = back({"bias": torch.randn(3), "weight": weight}, {"weight": grid})
    if weight.numel():
        assert torch.equal(found["weight"].levels, grid.levels)
        assert torch.equal(found["weight"].scales, grid.scales)


def test_a_weight_that_is_not_on_its_grid_is_stored_as_it_is() -> None:
    grid = Grid(torch.tensor([-1.0, 0.0, 1.0]), torch.ones(1))
    assert back({"weight": torch.tensor([[1.0, 0.5], [0.0, -1.0]])}, {"weight": grid}) == {}
    assert back({"weight": torch.tensor([[1.0, -0.0], [0.0, -1.0]])}, {"weight": grid}) == {}


def entropy(indices: np.ndarray) -> float:
    """Order-0 entropy in bytes."""
    counts = np.unique(indices, return_counts=True)[1]
    return float(-(counts * np.log2(counts / indices.size)).sum() / 8)


@pytest.mark.parametrize(("levels", "zeros"), [(15, 0.0), (15, 0.75), (15, 0.95), (31, 0.9), (3, 0.5), (256, 0.6)])
def test_quantized_weights_take_their_entropy(levels: int, zeros: float) -> None:
    weight, grid = planted((128, 128, 3, 3), levels, zeros, 0, codebook=False)
    stored = len(pack_state({"weight": weight + 0.0}, {"weight": grid}))
    assert stored - 4 * 128 < 1.03 * entropy(grid.indices(weight).numpy())


def _varying(along: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = [1, 1, 1, 1]
    shape[along] = -1
    sizes = torch.linspace(-2.5, 2.5, (128, 64, 3, 3)[along]).exp()[torch.randperm((128, 64)[along])].view(shape)
    return torch.randn(128, 64, 3, 3, generator=generator) * sizes


@pytest.mark.parametrize("along", [0, 1], ids=["rows", "channels"])
def test_a_scale_that_changes_takes_less_than_the_entropy(along: int) -> None:
    levels = torch.arange(-7, 8).float()
    grid = Grid(levels, torch.ones(1))
    weight = grid.nearest(_varying(along)) + 0.0
    assert len(pack_state({"w": weight}, {"w": grid})) < 0.85 * entropy(grid.indices(weight).numpy())


# Entropies: 1, 0.811, 0.544, 0.141 and 0.045 bits per weight, and 3 bytes and some bits for each kept.
@pytest.mark.parametrize("density", [0.5, 0.25, 0.125, 0.02, 0.005])
def test_positions_take_their_entropy(density: float) -> None:
    random = np.random.default_rng(0)
    kept = random.random((400, 1000)) < density
    size = len(pack_state({"w": torch.from_numpy(kept.astype(np.float32))}, {}))  # all ones: values take nothing
    assert size < 1.03 * entropy(kept) + 150


def test_small_tensors_share_one_pool() -> None:
    random = np.random.default_rng(0)
    state = {f"{i}": torch.from_numpy(random.normal(0, 1, 16).astype(np.float32)) for i in range(100)}
    # 100 x 16 x 4 bytes, of which the exponents shrink by more than half; a byte a tensor at the most besides.
    assert len(pack_state(state, {})) < 1600 * 3.45 + 100


@pytest.mark.parametrize(
    ("levels", "scale"),
    [
        ([0.0, float("nan")], 2.0),
        ([0.0, float("inf")], 2.0),
        ([1.5, 0.25], 2.0),
        ([0.25, 0.25], 2.0),
        ([0.25, 1.5], 0.0),
        ([0.25, 1.5], -2.0),
        ([0.25, 1.5], float("nan")),
    ],
)
def test_grids_that_cannot_be_are_refused(levels: list[float], scale: float) -> None:
    stored = StoredGrid(levels=2, first=None, scales=1, unit=False)
    with pytest.raises(PackingError):
        unpack_levels(stored, np.array([*levels, scale], np.float32))


@pytest.mark.parametrize(
    ("plan", "shape"), [(b"\x00\x00", (3, 2)), (b"\x03\x06", (3, 2)), (b"\x03\x08", (3, 2)), (b"\x03\x00", ())]
)
def test_plans_of_grids_that_cannot_be_are_refused(plan: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(PackingError):
        read_levels(plan, b"\0\0", shape)
