"""An artifact back into a network: `modelpress.load(path)`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from modelpress.engine.formats import compact, safetensors
from modelpress.engine.network import Network
from modelpress.spec.described_file import COMPACT_MAGIC
from modelpress.spec.failure import InvalidModel


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> nn.Module:
    """The `nn.Module` of a compact container or a safetensors artifact, in evaluation mode, on `device`.

    Raises InvalidModel when the file is not one of these, or is damaged, and OSError when it cannot be opened.
    """
    return load_network(Path(path)).module.to(device)


def describes_network(path: Path) -> bool:
    """Whether a file says itself which network it holds, so that `load_network` can read it without more."""
    with path.open("rb") as file:
        start = file.read(16)
    return start.startswith(COMPACT_MAGIC[:4]) or (start[8:9] == b"{" and safetensors.is_described(path))


def load_network(path: Path) -> Network:
    """As `load`, with the network's description, on the CPU. `masks` is empty; a compact container has its grids."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise InvalidModel(f"{path.name} is empty; download it again")
    if start.startswith(COMPACT_MAGIC[:4]):
        return compact.read(path)
    if start[8:9] == b"{":
        return safetensors.read(path)
    if path.suffix == ".onnx":
        raise InvalidModel(
            f"{path.name} is an ONNX graph, which PyTorch does not load; run it with onnxruntime, or load the job's "
            "model.mpz or model.safetensors"
        )
    if path.suffix == ".pt2":
        raise InvalidModel(
            f"{path.name} is a graph of PyTorch's own; load it with torch.export.load where you trust its source, or "
            "load the job's model.mpz or model.safetensors"
        )
    if path.suffix == ".pte":
        raise InvalidModel(
            f"{path.name} is a program for ExecuTorch, which PyTorch does not load; run it with executorch.runtime, or "
            "load the job's model.mpz or model.safetensors"
        )
    if path.name.endswith(".openvino.zip"):
        raise InvalidModel(
            f"{path.name} is a graph for OpenVINO, which PyTorch does not load; read it with openvino, as the model "
            "card says, or load the job's model.mpz or model.safetensors"
        )
    if start.startswith(b"PK\x03\x04") or path.suffix in (".pt", ".pth"):
        raise InvalidModel(
            f"{path.name} looks like a file of torch.save, not like an artifact of a job; load it with torch.load, or "
            "upload it with the name of its architecture"
        )
    raise InvalidModel(f"{path.name} is not an artifact of ModelPress (model.mpz or model.safetensors)")
