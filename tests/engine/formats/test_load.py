"""`modelpress.load`: artifacts by their content, and what is said of other files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import modelpress
from modelpress.engine.formats import compact, safetensors
from modelpress.engine.formats.load import load_network
from modelpress.spec.described_file import COMPACT_MAGIC
from modelpress.spec.failure import InvalidModel
from tests.support.networks import describe, network


@pytest.mark.parametrize("write", [compact.write, safetensors.write], ids=["compact", "safetensors"])
@pytest.mark.parametrize("kind", [str, Path])
def test_one_line_gives_the_module(write, kind, tmp_path: Path) -> None:
    original = network(describe("nin_cifar"))
    write(original, tmp_path / "any-name")
    module = modelpress.load(kind(tmp_path / "any-name"))
    assert not module.training
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(module(images), original.module(images))
    assert load_network(tmp_path / "any-name").description == original.description


def test_it_goes_to_the_device(tmp_path: Path) -> None:
    compact.write(network(describe("nin_cifar")), tmp_path / "model.mpz")
    assert {p.device.type for p in modelpress.load(tmp_path / "model.mpz", device="meta").parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("model.onnx", b"\x08\x0a\x12\x07pytorch", "onnxruntime"),
        ("model.pt2", b"PK\x03\x04" + bytes(30), "torch.export.load"),
        ("model.pt", b"PK\x03\x04" + bytes(30), "torch.load"),
        ("model.openvino.zip", b"PK\x03\x04" + bytes(30), "read it with openvino"),
        ("model.pte", b"\x20\0\0\0ET12" + bytes(30), "executorch.runtime"),
        ("model.mpz", b"", "is empty"),
        ("model.mpz", b"some text that is no model", "not an artifact"),
        ("model.mpz", COMPACT_MAGIC.replace(b"\r\n", b"\n") + bytes(60), "not a compact container"),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0{" + b" " * 20, "cut off or damaged"),
    ],
)
def test_other_files_are_refused_with_what_to_do(name: str, content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidModel, match=text):
        modelpress.load(tmp_path / name)


def test_a_file_that_is_not_there_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        modelpress.load(tmp_path / "none.mpz")
