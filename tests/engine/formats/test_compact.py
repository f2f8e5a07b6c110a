"""The compact container: lossless, small, the same bytes each time, and closed to damaged and hostile files."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.formats import compact
from modelpress.engine.formats.compact import _pack_tensor, _unpack_tensor
from modelpress.engine.formats.safetensors import stored_bytes
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.spec.architecture import ArchitectureRef
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
        describe("mobilenet_v3_small", num_classes=5, image_size=32),
    ],
    ids=["vgg", "factorized", "resnet", "mobilenet"],
)
@pytest.mark.parametrize("sparsity", [0.0, 0.03, 0.75, 0.98])
def test_round_trip_is_exact(description: Any, sparsity: float, tmp_path: Path) -> None:
    original = network(description)
    set_smallest_to_zero(original, sparsity)
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


patterns = st.one_of(
    st.just(0),
    st.just(0x80000000),
    st.just(0x7F800000),
    st.just(0x7FC00001),
    st.just(0x3F800000),
    st.integers(0, 2**32 - 1),
)


@settings(deadline=None)
@given(st.lists(patterns, max_size=300), st.integers(0, 3), st.sampled_from([0, 2, 40]))
def test_every_tensor_comes_back_bit_by_bit(bits: list[int], axis: int, spread: int) -> None:
    # Spread apart, so that all layouts come up; zeros of both signs, NaNs with payloads and infinities among them.
    values = np.zeros(len(bits) * (spread + 1), np.uint32)
    values[:: spread + 1] = bits
    shape = [1, 1, 1]
    shape.insert(axis, values.size)
    tensor = torch.from_numpy(values.view(np.float32)).reshape(shape)
    entry, chunks = _pack_tensor("weight", tensor)
    back = _unpack_tensor(entry, chunks)
    assert back.shape == tensor.shape
    assert back.numpy().view(np.uint32).tobytes() == values.tobytes()


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
    ],
    ids=str,
)
def test_other_types_and_shapes_come_back(tensor: torch.Tensor) -> None:
    back = _unpack_tensor(*_pack_tensor("buffer", tensor))
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert back.numpy().tobytes() == tensor.contiguous().numpy().tobytes()


@pytest.mark.parametrize(
    ("fill", "layout"),
    [
        (lambda x: x, "dense"),
        (lambda x: x * (x > 0), "mask"),
        (lambda x: x * (x > 2.5), "gaps"),
        (torch.zeros_like, "gaps"),
    ],
)
def test_the_layout_follows_the_zeros(fill: Callable[[torch.Tensor], torch.Tensor], layout: str) -> None:
    torch.manual_seed(0)
    entry, _ = _pack_tensor("weight", fill(torch.randn(100, 100)) + 0.0)  # + 0.0 turns -0.0 into 0.0
    assert entry.layout == layout


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
    assert version == 1
    assert content[14:46] == hashlib.sha256(content[46:]).digest()
    header = json.loads(zlib.decompress(content[46 : 46 + length]))
    assert header["network"]["architecture"]["architecture"] == "snn_1k"
    assert [entry["name"] for entry in header["tensors"]][:2] == ["features.0.weight", "features.0.bias"]
    assert sum(abs(n) for entry in header["tensors"] for n in entry["chunks"]) == len(content) - 46 - length


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
    with pytest.raises(InvalidModel, match=r"version 2, this ModelPress reads 1"):
        reading(written[:8] + b"\x02\x00" + written[10:], tmp_path)


def forged(written: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its header changed, and the hash right again."""
    length = struct.unpack_from("<I", written, 10)[0]
    header = json.loads(zlib.decompress(written[46 : 46 + length]))
    change(header)
    return sealed(zlib.compress(json.dumps(header).encode()), written[46 + length :])


def sealed(header: bytes, chunks: bytes) -> bytes:
    body = header + chunks
    return struct.pack("<8sHI32s", compact.MAGIC, 1, len(header), hashlib.sha256(body).digest()) + body


def _tensor(index: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["tensors"][index].update(fields)


def _grow(header: dict[str, Any]) -> None:
    header["tensors"][0]["shape"] = [10**6, 10**6]


def _unknown_edit(header: dict[str, Any]) -> None:
    header["network"]["edits"] = [{"kind": "rotated_layer", "layer": "features.0"}]


def _huge_network(header: dict[str, Any]) -> None:
    header["network"]["architecture"]["arguments"]["num_classes"] = 10**9


def _wrong_edit(header: dict[str, Any]) -> None:
    header["network"]["edits"] = [{"kind": "factorized_layer", "layer": "nowhere", "scheme": "svd", "rank": 1}]


def _huge_rank(header: dict[str, Any]) -> None:
    header["network"]["edits"] = [{"kind": "factorized_layer", "layer": "classifier.1", "scheme": "svd", "rank": 10**9}]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_grow, "1 shape differ"),
        (_unknown_edit, "a newer ModelPress wrote it"),
        (_huge_network, "more than 1,000,000,000 parameters"),
        (_wrong_edit, "'nowhere'"),
        (_huge_rank, "rank 1000000000"),
        (_tensor(0, name="features.0.Weight"), "1 key missing: features.0.weight"),
        (_tensor(1, name="features.0.weight"), "a tensor comes twice"),
        (_tensor(0, dtype="int32"), "is int32, the network has float32"),
        (_tensor(0, dtype="object"), "is object, the network has float32"),
        (_tensor(0, kept=10**9), "contradicts itself"),
        (_tensor(0, kept=0), "damaged at tensor 'features.0.weight'"),
        (_tensor(0, kept=-1), "header cannot be read"),
        (_tensor(0, layout="raw"), "contradicts itself"),
        (_tensor(0, layout="dense"), "contradicts itself"),
        (_tensor(0, layout="zip"), "header cannot be read"),
        (_tensor(0, chunks=[]), "do not fill it"),
        (_tensor(0, chunks=[10**12]), "do not fill it"),
        (lambda header: header["tensors"].pop(), "1 key missing: classifier.6.bias"),
        (lambda header: header.update(more=1), "header cannot be read"),
        (lambda header: header.pop("network"), "header cannot be read"),
    ],
)
def test_a_forged_header_is_refused(
    written: bytes, change: Callable[[dict[str, Any]], None], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel) as raised:
        reading(forged(written, change), tmp_path)
    assert text in raised.value.message


def test_chunks_that_inflate_too_far_are_refused(written: bytes, tmp_path: Path) -> None:
    """The first tensor's chunks replaced by bombs, header and hash right."""
    length = struct.unpack_from("<I", written, 10)[0]
    header = json.loads(zlib.decompress(written[46 : 46 + length]))
    entry = header["tensors"][0]
    chunks = written[46 + length + sum(map(abs, entry["chunks"])) :]
    bomb = zlib.compress(bytes(30_000_000), 9)
    entry.update(layout="dense", chunks=[-len(bomb)] * 4, kept=3 * 3 * 3 * 3)
    with pytest.raises(InvalidModel, match=r"'features\.0\.weight': a chunk holds over 81 bytes"):
        reading(sealed(zlib.compress(json.dumps(header).encode()), bomb * 4 + chunks), tmp_path)


@pytest.mark.parametrize(
    "header", [b"", b"{", b"null", b"[" * 200_000, b" " * (17 * 2**20)], ids=["empty", "cut", "null", "deep", "long"]
)
def test_headers_that_are_none_are_refused(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="header cannot be read"):
        reading(sealed(zlib.compress(header), b""), tmp_path)
