"""The compact container: lossless, small, the same bytes each time, and closed to damaged and hostile files."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.formats import compact
from modelpress.engine.formats.safetensors import stored_bytes
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.described_file import COMPACT_MAGIC
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import FactorizedLayer, Preprocessing
from modelpress.spec.task import ModelFile
from tests.support.networks import describe, network, set_smallest_to_zero

PAIR = FactorizedLayer(layer="classifier.1", scheme="svd", rank=3)


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    state = other.state_dict()
    assert list(one.state_dict()) == list(state)
    for name, tensor in one.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert tensor.numpy().tobytes() == state[name].numpy().tobytes(), name


@pytest.mark.parametrize(
    "description",
    [
        describe("vgg11_bn_cifar", width=0.1),
        describe("vgg11_bn_cifar", PAIR, width=0.1),
        describe("resnet20_cifar", num_classes=3, in_channels=1),
        describe("resnet11_cifar", width=0.5),
        describe("convnet8_cifar", width=0.25),
        describe("mobilenet_v3_small", num_classes=5, image_size=32),
    ],
    ids=["vgg", "factorized", "resnet", "resnet11", "convnet8", "mobilenet"],
)
def test_round_trip_is_exact(description: Any, tmp_path: Path) -> None:
    original = network(description)
    set_smallest_to_zero(original, 0.75)
    round_trip(original, tmp_path)


@pytest.mark.parametrize("sparsity", [0.0, 0.98, 1.0])
def test_round_trip_is_exact_at_any_sparsity(sparsity: float, tmp_path: Path) -> None:
    original = network(describe("resnet20_cifar", num_classes=3, in_channels=1))
    set_smallest_to_zero(original, sparsity)
    round_trip(original, tmp_path)


def round_trip(original: Network, tmp_path: Path) -> None:
    """Writes and reads it, and compares."""
    description = original.description
    compact.write(original, tmp_path / "model.mpz")
    read = compact.read(tmp_path / "model.mpz")
    assert read.description == description
    assert read.masks == {}
    assert not read.module.training
    assert_same_bits(original.module, read.module)
    with torch.inference_mode():
        images = torch.randn(2, *description.input_shape)
        assert torch.equal(original.module(images), read.module(images))


def test_description_comes_back_whole(tmp_path: Path) -> None:
    description = describe("vgg11_cifar", PAIR, width=0.05, num_classes=2).model_copy(
        update={"preprocessing": Preprocessing(mean=(0.1, 0.2, 0.3), std=(1 / 3, 1, 1)), "classes": ("ä", "b")}
    )
    compact.write(network(description), tmp_path / "model.mpz")
    assert compact.read(tmp_path / "model.mpz").description == description


# Ratios to the fp32 safetensors file. With n weights of which a share d is kept: d x 26.6 bits (3 of 8 exponent bits
# left) and the entropy of the positions, over 32.
@pytest.mark.parametrize(("sparsity", "most"), [(0.0, 0.85), (0.4, 0.54), (0.75, 0.25), (0.875, 0.13), (0.98, 0.03)])
def test_size_follows_the_kept_weights(sparsity: float, most: float, tmp_path: Path) -> None:
    pruned = network(describe("vgg16_bn_cifar", width=0.25))
    set_smallest_to_zero(pruned, sparsity)
    compact.write(pruned, tmp_path / "model.mpz")
    dense = stored_bytes(pruned.module.state_dict())
    assert (tmp_path / "model.mpz").stat().st_size / dense < most


@pytest.mark.skipif("MODELPRESS_DATA" not in os.environ, reason="MODELPRESS_DATA is not set")
@pytest.mark.parametrize(("sparsity", "most"), [(0.0, 0.46), (0.75, 0.15)])
def test_size_of_real_weights(sparsity: float, most: float, tmp_path: Path) -> None:
    # They were stored in half precision, which is found again.
    file = ModelFile(
        path="vgg19-cifar10.safetensors",
        format="safetensors",
        architecture=ArchitectureRef(architecture="vgg19_bn_cifar"),
        sha256="",
    )
    original = load_original(file, Path(os.environ["MODELPRESS_DATA"]))
    set_smallest_to_zero(original, sparsity)
    compact.write(original, tmp_path / "model.mpz")
    assert (tmp_path / "model.mpz").stat().st_size / stored_bytes(original.module.state_dict()) < most
    assert_same_bits(original.module, compact.read(tmp_path / "model.mpz").module)


def test_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        compact.write(network(describe("nin_cifar")), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    compact.write(network(describe("snn_1k")), tmp_path / "model.mpz")
    content = (tmp_path / "model.mpz").read_bytes()
    assert content[:8] == bytes.fromhex("89 4d 50 5a 0d 0a 1a 0a")
    version, length = struct.unpack_from("<HI", content, 8)
    assert version == 2
    assert content[14:46] == hashlib.sha256(content[46:]).digest()
    header = json.loads(zlib.decompress(content[46 : 46 + length]))
    assert header["architecture"]["architecture"] == "snn_1k"


# snn_1k as version 1 wrote it (commit 7876ba6), weights all zero but those that the test names.
VERSION_1 = base64.b64decode(
    "iU1QWg0KGgoBACIBAADYSYuO3Q8kkNS0eFrojDjvrB/DyyhzfxQvMB5F9gYzn3jardLhboIwEAfwd+nn07QwWOarGGIqntCApemVGGN49x3oJttE"
    "yWIOElqu/fFPOQuL4dj4SqzOQvu8NAHz0Hr8OxZk7UZVAni+aA9oA3FT14HAnemf1xkIY10bNlRqxyvWMcQRXzzvPDrf5EhkbCFWtq1rEHmtiZAu"
    "Q94noKXG9zudhdWH3tyj7nVayuURTVEG5nfh5IZ3daNDHPHMl5dCDAkk7NX61LSBmwrtiDsqdDxK2CxbW9HQm1wq6+AetzWaHmNjZsefjt9O+sMZ"
    "6q4Szwml+vWPUsmRJuFaE97TVCr9vzOcp9kb9POOS0kp4U3KF4nPs8kXWdG8dPAbPGiqbj9jn/5mLtQHLKL38T2pz0g6mVONTAXXyrqs+wQnKkIg"
    "AAAAAP++fwD//wCAAIAABgAAAACIAAEAAY9/gICBgYEAAIAAQIAAAAAAAAAAAAAAAAB4nFu1ahSMglEwCoYrAACplD5CeAHtwTEBAAAAwqDkdl8K"
    "P2AAAAAAwF0pcInweAHtwTEBAAAAwiD7p14KP2AAAAAAwF0TiAABeAHtwTEBAAAAwiD7p14KP2AAAAAAwF0TiAABeAHtwTEBAAAAwiD7p14KP2AA"
    "AAAAwF0TiAABCYAAAAA="
)


def test_version_1_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "model.mpz").write_bytes(VERSION_1)
    read = compact.read(tmp_path / "model.mpz")
    assert read.description == describe("snn_1k")
    state = {name: torch.zeros_like(tensor) for name, tensor in read.module.state_dict().items()}
    state["features.0.weight"].view(-1)[:4] = torch.tensor([1.5, -0.0, math.nan, -math.inf])
    state["features.0.weight"].view(-1)[449] = -3e-40
    state["features.0.bias"] += torch.arange(1, 1 + len(state["features.0.bias"]))
    state["classifier.2.weight"].view(-1)[::2] = 0.25
    state["classifier.2.bias"][9] = 2.0
    for name, tensor in read.module.state_dict().items():
        assert tensor.numpy().tobytes() == state[name].numpy().tobytes(), name


@pytest.mark.parametrize(
    "change", [{"kept": 10**9}, {"kept": 0}, {"layout": "raw"}, {"chunks": [10**12]}, {"shape": [9]}]
)
def test_a_forged_header_of_version_1_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    length = struct.unpack_from("<I", VERSION_1, 10)[0]
    header = json.loads(zlib.decompress(VERSION_1[46 : 46 + length]))
    header["tensors"][0].update(change)
    with pytest.raises(InvalidModel):
        reading(sealed(zlib.compress(json.dumps(header).encode()), VERSION_1[46 + length :], version=1), tmp_path)


def test_types_it_does_not_know_are_refused(tmp_path: Path) -> None:
    double = network(describe("snn_1k"))
    double.module.double()
    with pytest.raises(InvalidModel, match=r"'features\.0\.weight' is float64; the compact container takes float32"):
        compact.write(double, tmp_path / "model.mpz")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("compact") / "model.mpz"
    pruned = network(describe("vgg11_bn_cifar", width=0.05))
    set_smallest_to_zero(pruned, 0.8)
    compact.write(pruned, path)
    return path.read_bytes()


def reading(content: bytes, folder: Path) -> Network:
    (folder / "model.mpz").write_bytes(content)
    return compact.read(folder / "model.mpz")


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 20, 45, 46, 100, -1, -1000])
def test_a_file_that_is_cut_off_is_refused(written: bytes, kept: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel):
        reading(written[:kept], tmp_path)


def test_any_altered_byte_is_noticed(written: bytes, tmp_path: Path) -> None:
    for place in (*range(46), *range(46, len(written), 997)):
        altered = bytearray(written)
        altered[place] ^= 0x40
        with pytest.raises(InvalidModel):
            reading(bytes(altered), tmp_path)


def test_more_bytes_at_the_end_are_noticed(written: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="SHA-256"):
        reading(written + b"\0", tmp_path)


def test_a_newer_version_is_named(written: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"version 3, this ModelPress reads versions up to 2"):
        reading(written[:8] + b"\x03\x00" + written[10:], tmp_path)


def forged(written: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its header changed, and the hash right again."""
    length = struct.unpack_from("<I", written, 10)[0]
    header = json.loads(zlib.decompress(written[46 : 46 + length]))
    change(header)
    return sealed(zlib.compress(json.dumps(header).encode()), written[46 + length :])


def sealed(header: bytes, tensors: bytes, version: int = 2) -> bytes:
    body = header + tensors
    return struct.pack("<8sHI32s", COMPACT_MAGIC, version, len(header), hashlib.sha256(body).digest()) + body


def _unknown_edit(header: dict[str, Any]) -> None:
    header["edits"] = [{"kind": "rotated_layer", "layer": "features.0"}]


def _huge_network(header: dict[str, Any]) -> None:
    header["architecture"]["arguments"]["num_classes"] = 10**9


def _wrong_edit(header: dict[str, Any]) -> None:
    header["edits"] = [{"kind": "factorized_layer", "layer": "nowhere", "scheme": "svd", "rank": 1}]


def _huge_rank(header: dict[str, Any]) -> None:
    header["edits"] = [{"kind": "factorized_layer", "layer": "classifier.1", "scheme": "svd", "rank": 10**9}]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_unknown_edit, "a newer ModelPress wrote it"),
        (_huge_network, "more than 1,000,000,000 parameters"),
        (_wrong_edit, "'nowhere'"),
        (_huge_rank, "rank 1000000000"),
        (lambda header: header["architecture"]["arguments"].update(width=0.06), "damaged"),
        (lambda header: header["architecture"]["arguments"].update(num_classes=9), "damaged"),
        (lambda header: header["architecture"].update(architecture="vgg11_cifar"), "damaged"),
        (lambda header: header.update(more=1), "header cannot be read"),
        (lambda header: header.pop("architecture"), "header cannot be read"),
    ],
)
def test_a_forged_header_is_refused(
    written: bytes, change: Callable[[dict[str, Any]], None], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel) as raised:
        reading(forged(written, change), tmp_path)
    assert text in raised.value.message


def test_altered_tensors_under_a_right_hash_are_refused(written: bytes, tmp_path: Path) -> None:
    """Whatever is changed, the file is refused, or gives a network; no other error, and no more than it asks for."""
    length = struct.unpack_from("<I", written, 10)[0]
    header, tensors = written[46 : 46 + length], written[46 + length :]
    random = np.random.default_rng(0)
    places = [*range(0, 20, 2), *random.integers(0, len(tensors), 25).tolist()]
    for place in places:
        altered = bytearray(tensors)
        altered[place] ^= int(random.integers(1, 256))
        try:
            reading(sealed(header, bytes(altered)), tmp_path)
        except InvalidModel as error:
            assert "damaged" in error.message  # noqa: PT017
    for kept in [0, 3, 4, 8, 9, 20, len(tensors) // 2, len(tensors) - 2, len(tensors) - 1]:
        with pytest.raises(InvalidModel, match="damaged"):
            reading(sealed(header, tensors[:kept]), tmp_path)
    with pytest.raises(InvalidModel, match="damaged"):
        reading(sealed(header, tensors + b"\0\0"), tmp_path)


@pytest.mark.parametrize(
    "header", [b"", b"{", b"null", b"[" * 200_000, b" " * (17 * 2**20)], ids=["empty", "cut", "null", "deep", "long"]
)
def test_headers_that_are_none_are_refused(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="header cannot be read"):
        reading(sealed(zlib.compress(header), b""), tmp_path)
