"""Networks of every structure that steps make come back from a checkpoint, with what is held of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from modelpress.engine.checkpoints.file import read_file, write_file
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint, join, part_of
from modelpress.engine.checkpoints.stored_network import network_snapshot, restored_network
from modelpress.engine.network import Network
from modelpress.engine.steps import STEPS
from modelpress.spec.steps import Step
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network

STEP: TypeAdapter[Step] = TypeAdapter(Step)  # type: ignore[type-arg, valid-type]  # an annotated union
DATA = noise(24, size=32)
RECIPES: dict[str, list[dict[str, Any]]] = {
    "pruned": [{"kind": "prune", "sparsity": 0.7}],
    "factorized": [{"kind": "factorize", "rank": {"kind": "ratio", "value": 0.2}}],
    "narrowed": [{"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.4}}],
    "quantized": [{"kind": "quantize", "bits": 4}, {"kind": "quantize", "bits": 2, "scheme": "codebook"}],
    "all": [
        {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.2}},
        {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.5}, "batch_norm": True},
        {"kind": "prune", "sparsity": 0.5},
        {"kind": "quantize", "bits": 3},
    ],
}


def made(recipe: list[dict[str, Any]]) -> Network:
    current = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    current.description = current.description.model_copy(
        update={"preprocessing": DATA.statistics, "classes": DATA.classes}
    )
    for step in recipe:
        current = STEPS[step["kind"]](current, STEP.validate_python(step), context(current, DATA)).network
    return current


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_comes_back(name: str, tmp_path: Path):
    wanted = made(RECIPES[name])
    write_file(network_snapshot(wanted), tmp_path / "network")
    found = restored_network(read_file(tmp_path / "network"))
    assert found.description == wanted.description
    state = wanted.module.state_dict()
    assert list(found.module.state_dict()) == list(state)
    assert all(torch.equal(found.module.state_dict()[name], tensor) for name, tensor in state.items())
    assert list(found.masks) == list(wanted.masks)
    assert all(torch.equal(found.masks[name], mask) for name, mask in wanted.masks.items())
    assert list(found.grids) == list(wanted.grids)
    for name, grid in wanted.grids.items():
        assert torch.equal(found.grids[name].levels, grid.levels)
        assert torch.equal(found.grids[name].scales, grid.scales)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found.module(images), wanted.module(images))


def test_tensors_that_share_memory_are_written_each(tmp_path: Path):
    shared = torch.arange(6.0)
    write_file(Snapshot({"one": shared, "other": shared}, None), tmp_path / "shared")
    found = read_file(tmp_path / "shared").tensors
    assert torch.equal(found["one"], shared)
    assert torch.equal(found["other"], shared)


@pytest.mark.parametrize("left_out", ["structure/mask/features.0.weight", "weights/features.0.weight"])
def test_what_lacks_a_part_is_refused(left_out: str):
    whole = network_snapshot(made(RECIPES["pruned"]))
    assert left_out in whole.tensors
    with pytest.raises(UnusableCheckpoint):
        restored_network(
            Snapshot({name: tensor for name, tensor in whole.tensors.items() if name != left_out}, whole.facts)
        )


def test_a_network_that_cannot_be_built_is_refused():
    whole = network_snapshot(made(RECIPES["pruned"]))
    structure = part_of(whole, "structure").facts
    assert isinstance(structure, dict)
    description = structure["description"]
    assert isinstance(description, dict)
    unknown = {**structure, "description": {**description, "architecture": {"architecture": "none", "arguments": {}}}}
    parts = {"structure": Snapshot(facts=unknown), "weights": part_of(whole, "weights")}
    with pytest.raises(UnusableCheckpoint, match="cannot be built"):
        restored_network(join(parts))


def test_snapshots_are_joined_and_taken_apart():
    inner = join({"a": Snapshot({"x/y": torch.zeros(1)}, 1), "ab": Snapshot({"x": torch.ones(1)}, [2])})
    whole = join({"in": inner, "b": Snapshot()})
    found = part_of(whole, "in")
    assert part_of(found, "a").facts == 1
    assert list(part_of(found, "a").tensors) == ["x/y"]
    assert list(part_of(found, "ab").tensors) == ["x"]
    assert part_of(whole, "b").tensors == {}
    with pytest.raises(UnusableCheckpoint, match="nothing of the c"):
        part_of(whole, "c")


@pytest.mark.parametrize("other", [torch.zeros(3), torch.zeros(2, 1), torch.zeros(2, dtype=torch.float64)])
def test_a_tensor_must_be_what_is_asked_for(other: torch.Tensor):
    with pytest.raises(UnusableCheckpoint, match="no tensor 'a'"):
        Snapshot({"a": other}).like("a", torch.zeros(2))
    with pytest.raises(UnusableCheckpoint, match="no tensor 'b'"):
        Snapshot({"a": other}).like("b", other)


def test_a_tensor_is_laid_out_as_the_one_in_its_place():
    place = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    found = Snapshot({"a": torch.arange(96.0).view(2, 3, 4, 4)}).like("a", place)
    assert found.stride() == place.stride()
    assert torch.equal(found, torch.arange(96.0).view(2, 3, 4, 4))
