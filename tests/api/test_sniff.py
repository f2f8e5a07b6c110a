"""The quick look at uploads: files as their own tools write them, whole, cut short and of other kinds."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
import zstandard
from pyarrow import parquet
from safetensors.torch import save_file
from torch import nn

from api import sniff
from api.sniff import describes_network, sniff_dataset, sniff_model
from modelpress.engine.formats.registry import WRITERS
from modelpress.spec.failure import InvalidDataset, InvalidModel
from modelpress.spec.job import ArtifactKind
from tests.support.networks import describe, network
from tests.support.uploads import npz_file, safetensors_file, zip_file


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(content)
        return path

    return write


def saved(what: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(what, file, **options)
    return file.getvalue()


def tar_file(mode: str = "w", names: tuple[str, ...] = ("cat/1.png", "dog/1.png")) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]  # modes as text
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return file.getvalue()


NETWORK = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.mark.parametrize("kind", [ArtifactKind.COMPACT, ArtifactKind.SAFETENSORS])
def test_an_artifact_says_itself_which_network_it_holds(kind, tmp_path):
    WRITERS[kind](network(describe("snn_1k")), tmp_path / "model")
    assert sniff_model(tmp_path / "model") == kind.value
    assert describes_network(tmp_path / "model", sniff_model(tmp_path / "model"))


@pytest.mark.parametrize("metadata", [None, {"by": "hand"}])
def test_weights_alone_do_not(metadata, tmp_path):
    save_file(NETWORK.state_dict(), tmp_path / "model", metadata=metadata)
    assert not describes_network(tmp_path / "model", sniff_model(tmp_path / "model"))
    torch.save(NETWORK.state_dict(), tmp_path / "model")
    assert not describes_network(tmp_path / "model", sniff_model(tmp_path / "model"))


def test_a_container_that_a_copy_in_text_mode_altered(write, tmp_path):
    WRITERS[ArtifactKind.COMPACT](network(describe("snn_1k")), tmp_path / "model")
    with pytest.raises(InvalidModel, match="altered on its way"):
        sniff_model(write((tmp_path / "model").read_bytes().replace(b"\r\n", b"\n")))


def test_a_safetensors_file(write, tmp_path):
    save_file(NETWORK.state_dict(), tmp_path / "model.safetensors")
    assert sniff_model(tmp_path / "model.safetensors") == "safetensors"
    assert sniff_model(write(safetensors_file())) == "safetensors"


def test_a_state_dict(write):
    assert sniff_model(write(saved(NETWORK.state_dict()))) == "pt"


@pytest.mark.parametrize("cut", [12, 60, 3000, 4111])
def test_a_safetensors_file_cut_short(write, cut):
    with pytest.raises(InvalidModel, match="truncated"):
        sniff_model(write(safetensors_file()[:cut]))


def test_a_safetensors_file_that_goes_on(write):
    with pytest.raises(InvalidModel, match="5 bytes follow its last tensor"):
        sniff_model(write(safetensors_file() + b"extra"))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_state_dict_cut_short(write, share):
    content = saved(NETWORK.state_dict())
    with pytest.raises(InvalidModel, match="truncated"):
        sniff_model(write(content[: int(len(content) * share)]))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def with_tensors(*names: str) -> bytes:
    entries = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    return with_header(json.dumps(entries).encode(), bytes(4 * len(names)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (with_header(b"{}"), "holds no tensors"),
        (with_header(b'{"__metadata__": {}}'), "holds no tensors"),
        (with_header(b"{not json}"), "cannot be read"),
        (with_header(b'{"a": 1}'), "cannot be read"),
        (with_header(b'{"a": {"data_offsets": [4, 0]}}'), "cannot be read"),
        (with_header(b'{"a": {"data_offsets": ["0", "4"]}}'), "cannot be read"),
        (with_header(b'{"a":' * 200_000), "cannot be read"),
        (struct.pack("<Q", 1 << 40) + b'{"a": 1}', "would be 1,099,511,627,776 bytes long"),
        (saved(NETWORK.state_dict(), _use_new_zipfile_serialization=False), "PyTorch before 1.6"),
        (pickle.dumps({"weight": [1.0]}), "bare pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(100), "TensorFlow Lite"),
        (b"\x38\x00\x00\x00ET12" + bytes(100), r"ExecuTorch.*model\.mpz"),
        (zip_file(("model.xml", "model.bin")), r"OpenVINO.*model\.mpz"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (zip_file(), "none that PyTorch saved"),
        (zip_file(("config.json", "metadata.json", "model.weights.h5")), r"(?s)Keras.*tf2onnx"),
        (zip_file(("bert/config.json", "bert/model.safetensors")), "Hugging Face model folder"),
        (zip_file(("config.json", "pytorch_model-00001-of-00002.bin")), "Hugging Face model folder"),
        (tar_file(names=("./config.json", "./model.safetensors")), "Hugging Face model folder"),
        (tar_file("w:gz", names=("vit/config.json", "vit/pytorch_model.bin")), "Hugging Face model folder"),
        (tar_file("w:xz", names=("export/saved_model.pb", "export/variables/variables.index")), "SavedModel"),
        (zip_file(("saved_model.pb", "variables/variables.index")), r"(?s)SavedModel.*tf2onnx.*--saved-model"),
        (zip_file(("inference.pdmodel", "inference.pdiparams")), "PaddlePaddle"),
        (struct.pack("<QQ", 0x112, 0) + bytes(100), "MXNet"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (saved(NETWORK), r"(?s)torch\.nn\.modules\.container\.Sequential.*torch\.export\.save"),
        (with_tensors("vit.encoder.layer.0.attention.attention.query.weight"), "Hugging Face transformers model"),
        (with_tensors("model.layers.0.self_attn.q_proj.weight"), "Hugging Face transformers model"),
        (with_tensors("resnet.embedder.embedder.convolution.weight"), "Hugging Face transformers model"),
        (zip_file(("serialized_exported_program.json", "version")), r"torch\.export"),
        (npz_file(), "numpy arrays"),
        (tar_file(), "archive"),
        (tar_file("w:gz"), "archive"),
        (b"hello", "neither a safetensors file nor"),
        (bytes(5000), "neither a safetensors file nor"),
    ],
)
def test_what_is_no_model(write, content, says):
    with pytest.raises(InvalidModel, match=says):
        sniff_model(write(content))


def test_an_exported_program(write):
    names = ("mine/archive_format", "mine/models/model.json", "mine/data/weights/weight_0")
    assert sniff_model(write(zip_file(names))) == "pt2"


def test_a_torchscript_model(write):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        # The entries that torch.jit.save writes.
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"model/{name}", b"")
    with pytest.raises(InvalidModel, match="TorchScript"):
        sniff_model(write(file.getvalue()))


@pytest.mark.parametrize("names", [(), ("a/1.png",), ("big",)])
def test_a_tar_is_looked_through_by_its_headers_alone(write, names):
    file = bytearray(tar_file(names=names))
    if names == ("big",):
        file[124:136] = b"77777777777\0"  # 8 GB, so it says
        file[148:156] = b"        "
        file[148:156] = b"%06o\0 " % sum(file[:512])
    with pytest.raises(InvalidModel, match=r"archive|neither a safetensors"):
        sniff_model(write(bytes(file)))


def test_checkpoints_are_left_to_the_inspection(write):
    for content in (NETWORK.state_dict(), dict(NETWORK.state_dict()), {"model": NETWORK}, torch.ones(2)):
        assert sniff_model(write(saved(content))) == "pt"


def test_an_onnx_model(write):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [])
    model = onnx.helper.make_model(graph, producer_name="tester")
    assert sniff_model(write(model.SerializeToString())) == "onnx"


def test_every_refusal_of_a_model_says_what_to_do(write):
    for content in (b"hello", b"GGUF" + bytes(100), pickle.dumps([1]), zip_file()):
        with pytest.raises(InvalidModel, match=r"save_file\(model\.state_dict\(\)"):
            sniff_model(write(content))


def npy_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def parquet_file() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"label": [0, 1]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (zip_file(), "zip"),
        (npz_file(), "npz"),
        (tar_file(), "tar"),
        (tar_file("w:gz"), "tar"),
        (tar_file("w:bz2"), "tar"),
        (tar_file("w:xz"), "tar"),
        (zstandard.compress(tar_file()), "tar"),
        (npy_file(), "npy"),
        (parquet_file(), "parquet"),
    ],
)
def test_data_sets(write, content, format):
    assert sniff_dataset(write(content)) == format


def test_a_tar_of_the_oldest_kind_has_no_magic_word(write):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    header = bytearray(file.getvalue()[:512])
    header[257:265] = bytes(8)
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    assert sniff_dataset(write(bytes(header) + file.getvalue()[512:])) == "tar"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zip_file()[:-30], "truncated"),
        (npz_file()[:-1000], "truncated"),
        (parquet_file()[:-1], "truncated"),
        (b"PAR1", "truncated"),
        (b"PARE" + bytes(100), "encrypted Parquet"),
        (b"ARROW1" + bytes(100), "an Arrow file; save it as Parquet"),
        (zip_file(()), "holds no files"),
        (pickle.dumps([1, 2]), "pickle"),
        (b"\x1f\x8b" + bytes(50), "compressed file holds no tar"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "single image"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z"),
        (json.dumps({"images": []}).encode(), "neither a zip, a tar, an npz, an npy nor a Parquet file"),
        (bytes(512), "neither a zip, a tar, an npz, an npy nor a Parquet file"),
        (b"x", "neither a zip, a tar, an npz, an npy nor a Parquet file"),
    ],
)
def test_what_is_no_data_set(write, content, says):
    with pytest.raises(InvalidDataset, match=says):
        sniff_dataset(write(content))


def test_a_long_index_is_not_read(write):
    content = zip_file(tuple(f"{number:0800}" for number in range(6000)))
    assert sniff_dataset(write(content)) == "zip"
    assert sniff_model(write(content)) == "pt"


def test_nor_one_whose_length_stands_in_the_records_of_zip64(write):
    content = zip_file(("a.png",))
    at = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack_from("<LL", content, at + 12)
    for claimed in (size, 1 << 40):
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, claimed, start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        path = write(content[:at] + record + locator + content[at:])
        if claimed == size:
            with pytest.raises(InvalidModel, match="none that PyTorch saved"):
                sniff_model(path)
        else:
            assert sniff_model(path) == "pt"  # for the inspection to refuse


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_nothing_is_unpacked_of_what_pytorch_does_not_pack(write, kind):
    """A few hundred bytes that would be as many megabytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("model/data.pkl", bytes(64 << 20))
    path = write(file.getvalue())
    tracemalloc.start()
    try:
        assert sniff_model(path) == "pt"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20


def test_few_files_are_looked_at_at_once(write, monkeypatch):
    path, looking, most = write(safetensors_file()), [], []

    def slow(path):
        looking.append(path)
        most.append(len(looking))
        time.sleep(0.05)
        looking.pop()
        return b""

    monkeypatch.setattr(sniff, "_head", slow)
    with ThreadPoolExecutor(8) as pool:
        for looked in [pool.submit(sniff_model, path) for _ in range(8)]:
            with pytest.raises(InvalidModel):
                looked.result()
    assert max(most) == 2
