"""State dicts as users have them: safetensors, or `.pt` as `torch.save(model.state_dict(), path)` writes it.

Nothing in a file is executed: safetensors is data, and `.pt` is read by torch's restricted unpickler alone.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modelpress.engine.architectures.budget import MOST_ELEMENTS
from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.formats import pickled
from modelpress.engine.formats.checkpoint import Weights, choose, state_dicts
from modelpress.spec.failure import InvalidModel
from modelpress.spec.foreign_model import foreign_bytes, foreign_members

StateDictFormat = Literal["safetensors", "pt"]

_HEAD_BYTES = 4096
_SAVE = (
    'Where the model was made, save its state dict and upload that:\n    torch.save(model.state_dict(), "weights.pt")'
)


def read_weights(path: Path, format: StateDictFormat, wanted: Collection[str]) -> Weights:
    """The tensors of a file for a network whose state dict has the names `wanted`; floating ones as fp32, on the CPU.

    A checkpoint that holds them beside other things is taken apart as `modelpress.engine.formats.checkpoint` says.
    Raises InvalidModel for a file that is not of this format, is damaged, holds no state dict, or too much.
    """
    if path.stat().st_size == 0:
        raise InvalidModel("the file is empty; upload the model's state dict")
    weights = choose(READERS[format](path), wanted)
    elements = sum(tensor.numel() for tensor in weights.tensors.values())
    if elements > MOST_ELEMENTS:
        raise InvalidModel(f"the file's tensors have {elements:,} elements; at most {MOST_ELEMENTS:,} are taken")
    return Weights({name: _plain(name, tensor) for name, tensor in weights.tensors.items()}, weights.notes)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as they are. Raises InvalidModel for anything else."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        if zipfile.is_zipfile(path):
            raise InvalidModel(
                "the file is not safetensors but a zip, such as torch.save writes; give format=pt"
            ) from error
        raise InvalidModel(
            f"the file is not safetensors, or it is cut off or damaged ({_shortened(error)}); upload it again, "
            "or save it again with safetensors.torch.save_file(model.state_dict(), path)"
        ) from error


def read_pt(path: Path) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a `.pt` file by their place, tensors as they are. Raises InvalidModel for anything else."""
    zipped = _refuse_other_archives(path)
    try:
        with warnings.catch_warnings():
            # Files of torch before 1.6 go through its deprecated TypedStorage; other protocols are read, or refused.
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            content = pickled.load(path, mmap=zipped)
    except InvalidModel:
        raise
    except pickle.UnpicklingError as error:
        raise _damaged(error) from error
    except Exception as error:  # for bytes that mean nothing, the unpickler raises anything at all
        raise exhaustion(error, "reading the model's file") or _damaged(error) from error
    found = state_dicts(content)
    if not found:
        raise _no_state_dict(content)
    return found


def _whole_file(path: Path) -> dict[str, dict[str, Tensor]]:
    state = read_safetensors(path)
    if not state:
        raise InvalidModel(f"the file holds no tensors. {_SAVE}")
    return {"": state}


# State dicts of a file by their place in it; the empty place is the file itself.
READERS: dict[StateDictFormat, Callable[[Path], dict[str, dict[str, Tensor]]]] = {
    "safetensors": _whole_file,
    "pt": read_pt,
}


def _refuse_other_archives(path: Path) -> bool:
    """Whether the file is a zip, as torch has written since 1.6; raises InvalidModel for zips of other makers."""
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES)
    if start[8:9] == b"{" and not start.startswith(b"PK"):
        raise InvalidModel("the file is safetensors; give format=safetensors")
    if not start.startswith(b"PK\x03\x04"):
        foreign = foreign_bytes(start)
        if foreign is not None:
            raise InvalidModel(foreign)
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(error) from error
    inner = {name.partition("/")[2] for name in names}
    foreign = foreign_members(names)
    if foreign is not None:
        raise InvalidModel(foreign)
    if "archive_format" in inner or any(name.endswith("serialized_exported_program.json") for name in names):
        raise InvalidModel(f"the file is a program made by torch.export, not a state dict. {_SAVE}")
    if "data.pkl" not in inner:
        raise InvalidModel(f"the file is a zip, but not one that torch.save wrote. {_SAVE}")
    return True


def _damaged(error: Exception) -> InvalidModel:
    return InvalidModel(
        f"the file is not a PyTorch state dict, or it is cut off or damaged ({_shortened(error)}). "
        f"If it was whole before the upload, upload it again. {_SAVE}"
    )


def _no_state_dict(content: Any) -> InvalidModel:
    if not isinstance(content, Mapping):
        return InvalidModel(f"the file holds a {_kind(content)}, not a state dict. {_SAVE}")
    if not content:
        return InvalidModel(f"the file holds no tensors. {_SAVE}")
    others = [
        f"{str(key)[:80]} ({_kind(value)})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    more = f" and {len(others) - 12} more" if len(others) > 12 else ""
    return InvalidModel(f"the file's dict holds more than named tensors: {', '.join(others[:12])}{more}. {_SAVE}")


def _kind(value: Any) -> str:
    return "Python object" if isinstance(value, pickled.Aside) else type(value).__name__


def _plain(name: str, tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise InvalidModel(
            f"tensor {name[:200]!r} is sparse, quantised, complex or empty of data; save it as dense fp32"
        )
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _shortened(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
