"""State dicts as users bring them, and everything else they might upload instead."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modelpress.engine.formats.state_dict import StateDictFormat, read_weights
from modelpress.spec.failure import InvalidModel
from tests.support.uploads import zip_file

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -0.0]), "n": torch.tensor(7)}


def read_state_dict(path: Path, format: StateDictFormat) -> dict[str, Tensor]:
    return read_weights(path, format, STATE).tensors


def saved(content: Any, folder: Path, **options: Any) -> Path:
    torch.save(content, folder / "model.pt", **options)
    return folder / "model.pt"


def assert_state(state: dict[str, Tensor]) -> None:
    assert list(state) == list(STATE)
    for name, tensor in STATE.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_comes_as_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    file = {name: t.to(dtype) if t.is_floating_point() else t for name, t in STATE.items()}
    save_file(file, tmp_path / "model.safetensors")
    state = read_state_dict(tmp_path / "model.safetensors", "safetensors")
    assert_state({name: state[name] for name in STATE})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_pt_comes_as_fp32(dtype: torch.dtype, zipped: bool, tmp_path: Path) -> None:
    file = {name: t.to(dtype) if t.is_floating_point() else t for name, t in STATE.items()}
    assert_state(read_state_dict(saved(file, tmp_path, _use_new_zipfile_serialization=zipped), "pt"))


def test_what_a_module_saves_is_read(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = read_state_dict(saved(module.state_dict(), tmp_path), "pt")
    assert {name: t.tolist() for name, t in state.items()} == {n: t.tolist() for n, t in module.state_dict().items()}


def test_parameters_are_plain_tensors_without_gradients(tmp_path: Path) -> None:
    path = saved({name: nn.Parameter(t) for name, t in STATE.items() if t.is_floating_point()}, tmp_path)
    assert not any(tensor.requires_grad for tensor in read_state_dict(path, "pt").values())


class Marker:
    """Unpickling one would leave a trace."""

    touched: list[str] = []

    def __reduce__(self) -> Any:
        return Marker.touched.append, ("unpickled",)


def refusal(path: Path, format: Any = "pt") -> str:
    with pytest.raises(InvalidModel) as raised:
        read_state_dict(path, format)
    return raised.value.message


def test_a_whole_pickled_module_is_refused_with_the_lines_to_paste(tmp_path: Path) -> None:
    message = refusal(saved(nn.Linear(2, 2), tmp_path))
    assert "torch.nn.modules.linear.Linear" in message
    assert "nothing of it was run" in message
    assert 'torch.save(model.state_dict(), "weights.pt")' in message


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    Marker.touched.clear()
    for content in (Marker(), {"a": Marker()}):
        for zipped in (True, False):
            refusal(saved(content, tmp_path, _use_new_zipfile_serialization=zipped))
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"a": Marker()}))
    refusal(tmp_path / "model.pt")
    assert Marker.touched == []


def test_torchscript_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    assert "TorchScript" in refusal(tmp_path / "model.pt")


def test_exported_programs_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "model.pt2")
    assert "torch.export" in refusal(tmp_path / "model.pt2")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_truncated_pt_is_refused(zipped: bool, tmp_path: Path) -> None:
    whole = saved({"w": torch.randn(1000)}, tmp_path, _use_new_zipfile_serialization=zipped).read_bytes()
    for share in (0.02, 0.3, 0.5, 0.9, 0.99):
        (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
        assert "cut off or damaged" in refusal(tmp_path / "cut.pt")


def test_a_truncated_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.randn(1000)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for kept in (1, 7, 8, 20, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:kept])
        assert "cut off or damaged" in refusal(tmp_path / "cut", "safetensors")


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"w": {"dtype": "F31", "shape": [4], "data_offsets": [0, 16]}},
        {"w": {"shape": [4], "data_offsets": [0, 16]}},
        {"w": 3},
    ],
)
def test_lying_safetensors_headers_are_refused(header: Any, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    assert "cut off or damaged" in refusal(tmp_path / "model", "safetensors")


def test_a_header_length_beyond_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "cut off or damaged" in refusal(tmp_path / "model", "safetensors")


@pytest.mark.parametrize("format", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello world, this is no model", b"\x80\x02}."]
)
def test_what_is_not_a_model_is_refused(format: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    assert "upload" in refusal(tmp_path / "model", format)


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_an_empty_file_is_refused(format: str, tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    assert "the file is empty" in refusal(tmp_path / "model", format)


def test_another_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("photos/cat.jpg", b"meow")
    assert "not one that torch.save wrote" in refusal(tmp_path / "model.zip")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "tf2onnx"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(100), "--tflite"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"<!doctype html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_files_of_other_tools_are_named(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    assert text in refusal(tmp_path / "model")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("saved_model.pb", "variables/variables.index"), "SavedModel"),
        (("bert/config.json", "bert/model.safetensors"), "Hugging Face"),
        (("config.json", "model.weights.h5"), "Keras"),
    ],
)
def test_folders_of_other_tools_are_named(names: tuple[str, ...], text: str, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(zip_file(names))
    assert text in refusal(tmp_path / "model.zip")


def test_the_wrong_format_is_named(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    assert "format=safetensors" in refusal(tmp_path / "model.safetensors", "pt")
    assert "format=pt" in refusal(saved(STATE, tmp_path), "safetensors")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "no tensors"),
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({"lr": 0.1, "w": torch.ones(1), "history": [1]}, "lr (float), history (list)"),
        ({3: torch.ones(1)}, "3 (Tensor)"),
        ({f"n{i}": i for i in range(20)}, "n11 (int) and 8 more"),
        ({"w": torch.ones(1).expand(10**10)}, "10,000,000,000 elements"),
        ({"w": torch.eye(3).to_sparse()}, "sparse"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "complex"),
    ],
)
def test_other_contents_are_named(content: Any, text: str, tmp_path: Path) -> None:
    assert text in refusal(saved(content, tmp_path))


def test_damage_inside_a_pt_is_refused(tmp_path: Path) -> None:
    """Bytes of the pickle overwritten one at a time: an InvalidModel or a state dict, and nothing else."""
    whole = saved({"w": torch.ones(3)}, tmp_path).read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = archive.read("model/data.pkl")
    start = whole.index(pickled)
    for place in range(start, start + len(pickled)):
        altered = bytearray(whole)
        altered[place] ^= 0x15
        (tmp_path / "altered.pt").write_bytes(altered)
        try:
            state = read_state_dict(tmp_path / "altered.pt", "pt")
        except InvalidModel:
            continue
        assert all(isinstance(tensor, Tensor) for tensor in state.values())
