"""Good files, the smallest that are taken, for the corpus to damage."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as save_safetensors
from torch import Tensor

from modelpress.engine.formats import compact
from modelpress.engine.formats import safetensors as artifact
from modelpress.engine.network import Network, build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription
from tests.hostile.hostile_file import Door
from tests.support.archives import picture
from tests.support.exported import Photographer, export

ARCHITECTURE = ArchitectureRef(architecture="vgg11_bn_cifar", arguments={"width": 0.0625, "num_classes": 3})


@cache
def state_dict() -> dict[str, Tensor]:
    """The tensors that the architecture takes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(ARCHITECTURE).state_dict()


@cache
def pt() -> bytes:
    """As torch.save writes a state dict."""
    file = io.BytesIO()
    torch.save(state_dict(), file)
    return file.getvalue()


@cache
def safetensors() -> bytes:
    """As safetensors writes it."""
    return bytes(save_safetensors(state_dict()))


@cache
def npz(*, compressed: bool = False) -> bytes:
    """Twelve images of three classes."""
    file = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    save = np.savez_compressed if compressed else np.savez
    save(file, images=images, labels=np.arange(12) % 3)
    return file.getvalue()


@cache
def folders() -> Mapping[str, bytes]:
    """Class folders: four images, two classes."""
    return {f"{name}/{seed}.png": picture(seed) for name in ("cat", "dog") for seed in (1, 2)}


@cache
def zipped() -> bytes:
    """A zip of class folders."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in folders().items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


@cache
def tarred(compression: str = "") -> bytes:
    """A tar of class folders; compressed by "gz", "bz2" or "xz"."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in folders().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _artifact(write, name: str) -> bytes:
    description = NetworkDescription(architecture=ARCHITECTURE, input_shape=(3, 32, 32))
    module = build(ARCHITECTURE)
    module.load_state_dict(state_dict())
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(Network(module.eval(), description), path)
        return path.read_bytes()


@cache
def mpz() -> bytes:
    """The compact container."""
    return _artifact(compact.write, "model.mpz")


@cache
def described_safetensors() -> bytes:
    """The artifact that carries its architecture as data."""
    return _artifact(artifact.write, "model.safetensors")


@cache
def pt2() -> bytes:
    """As torch.export.save writes a network that has no name here."""
    with TemporaryDirectory() as folder:
        return export(Photographer().eval(), Path(folder) / "model.pt2", torch.ones(2, 1, 8, 8)).read_bytes()


@cache
def onnx_model() -> bytes:
    """Of two layers."""
    draw = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("ReduceMean", ["r"], ["y"], axes=[2, 3], keepdims=0),
        ],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(draw.normal(size=(3, 1, 3, 3)).astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@cache
def all_good() -> dict[str, tuple[Door, bytes]]:
    """Every one by name, with the door that it is meant for."""
    return {
        "pt": ("model", pt()),
        "safetensors": ("model", safetensors()),
        "npz": ("dataset", npz()),
        "npz deflated": ("dataset", npz(compressed=True)),
        "zip": ("dataset", zipped()),
        "tar": ("dataset", tarred()),
        "tar.gz": ("dataset", tarred("gz")),
        "tar.bz2": ("dataset", tarred("bz2")),
        "tar.xz": ("dataset", tarred("xz")),
        "pt2": ("graph", pt2()),
        "onnx": ("graph", onnx_model()),
        "mpz": ("artifact", mpz()),
        "described safetensors": ("artifact", described_safetensors()),
    }
