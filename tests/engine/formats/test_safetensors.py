"""The safetensors artifact, and the size of a plain safetensors file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from modelpress.engine.formats import safetensors
from modelpress.engine.formats.safetensors import stored_bytes
from modelpress.engine.network import Network
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer, Preprocessing
from tests.support.networks import describe, network

DESCRIPTION = describe(
    "vgg11_bn_cifar", FactorizedLayer(layer="classifier.1", scheme="svd", rank=2), width=0.1, num_classes=3
).model_copy(update={"preprocessing": Preprocessing(mean=(0.5, 0.5, 0.1), std=(1, 1, 0.3)), "classes": ("a", "b", "ü")})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    original = network(DESCRIPTION)
    safetensors.write(original, tmp_path / "model.safetensors")
    read = safetensors.read(tmp_path / "model.safetensors")
    assert read.description == DESCRIPTION
    assert not read.module.training
    for name, tensor in original.module.state_dict().items():
        assert torch.equal(tensor, read.module.state_dict()[name])


def test_any_reader_reads_it(tmp_path: Path) -> None:
    original = network(DESCRIPTION)
    safetensors.write(original, tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in original.module.state_dict().items())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert list(file.metadata()) == ["modelpress"]


def test_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        safetensors.write(network(DESCRIPTION), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_weights_that_share_memory_are_written_twice(tmp_path: Path) -> None:
    tied = network(describe("snn_1k"))
    tied.module.features[3].bias = torch.nn.Parameter(torch.zeros(16))
    tied.module.features[0].bias = torch.nn.Parameter(tied.module.features[3].bias.data[:6])
    safetensors.write(tied, tmp_path / "model.safetensors")
    assert safetensors.read(tmp_path / "model.safetensors").module.features[0].bias.shape == (6,)


@pytest.mark.parametrize(
    "state",
    [
        network(DESCRIPTION).module.state_dict(),
        network(describe("resnet20_cifar")).module.state_dict(),
        {f"ü{index}": torch.zeros(index) for index in range(12)},
        {
            str(dtype): torch.zeros(3, dtype=dtype)
            for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16)
        }
        | {
            str(dtype): torch.zeros(2, dtype=dtype)
            for dtype in (torch.int32, torch.float32, torch.float64, torch.int64)
        },
        {},
    ],
    ids=["vgg", "resnet", "names", "types", "empty"],
)
def test_stored_bytes_are_those_of_the_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "plain")
    assert stored_bytes(state) == (tmp_path / "plain").stat().st_size


def test_a_plain_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    save_file(network(describe("nin_cifar")).module.state_dict(), tmp_path / "plain")
    with pytest.raises(InvalidModel, match="Upload it with the name of its architecture"):
        safetensors.read(tmp_path / "plain")


@pytest.mark.parametrize("metadata", ["", "{", "{}", '{"architecture": 3}'])
def test_a_broken_description_is_refused(metadata: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model", metadata={"modelpress": metadata})
    with pytest.raises(InvalidModel, match="description of the network cannot be read"):
        safetensors.read(tmp_path / "model")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    wrong = Network(network(describe("snn_1k")).module, describe("cnn_1k"))
    safetensors.write(wrong, tmp_path / "model")
    with pytest.raises(InvalidModel, match=r"2 keys missing: classifier\.4\.weight, classifier\.4\.bias"):
        safetensors.read(tmp_path / "model")
