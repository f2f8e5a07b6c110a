"""State dicts as users have them: safetensors, or `.pt` as `torch.save(model.state_dict(), path)` writes it.

Nothing in a file is executed: safetensors is data, and `.pt` is read by torch's restricted unpickler alone.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modelpress.engine.architectures.budget import MOST_ELEMENTS
from modelpress.engine.exhaustion import exhaustion
from modelpress.spec.failure import InvalidModel

StateDictFormat = Literal["safetensors", "pt"]

# Where training scripts keep the state dict in a checkpoint that also holds an epoch, an optimiser and the like.
NESTED = ("state_dict", "model_state_dict", "model")
# torch.nn.DataParallel and torch.compile put these before every name.
PREFIXES = ("module.", "_orig_mod.")

_SAVE = (
    'Where the model was made, save its state dict and upload that:\n    torch.save(model.state_dict(), "weights.pt")'
)


def read_state_dict(path: Path, format: StateDictFormat) -> dict[str, Tensor]:
    """The tensors of a file by name, floating ones as fp32, on the CPU.

    A prefix that `torch.nn.DataParallel` or `torch.compile` put before every name is taken off. Raises InvalidModel
    for a file that is not of this format, is damaged, holds something else than tensors, or too much.
    """
    if path.stat().st_size == 0:
        raise InvalidModel("the file is empty; upload the model's state dict")
    state = READERS[format](path)
    if not state:
        raise InvalidModel(f"the file holds no tensors. {_SAVE}")
    elements = sum(tensor.numel() for tensor in state.values())
    if elements > MOST_ELEMENTS:
        raise InvalidModel(f"the file's tensors have {elements:,} elements; at most {MOST_ELEMENTS:,} are taken")
    return {name: _plain(name, tensor) for name, tensor in _without_prefix(state).items()}


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


def read_pt(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.pt` file, its tensors as they are. Raises InvalidModel for anything else."""
    zipped = _refuse_other_archives(path)
    try:
        with warnings.catch_warnings():
            # Files of torch before 1.6 go through its deprecated TypedStorage; other protocols are read, or refused.
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _unpicklable(error) from error
    except Exception as error:  # for bytes that mean nothing, the unpickler raises anything at all
        raise exhaustion(error, "reading the model's file") or _damaged(error) from error
    return _tensors(content)


READERS: dict[StateDictFormat, Callable[[Path], dict[str, Tensor]]] = {"safetensors": read_safetensors, "pt": read_pt}


def _refuse_other_archives(path: Path) -> bool:
    """Whether the file is a zip, as torch has written since 1.6; raises InvalidModel for zips of other makers."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{" and not start.startswith(b"PK"):
        raise InvalidModel("the file is safetensors; give format=safetensors")
    if not start.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(error) from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise InvalidModel(
            "the file is a TorchScript program, whose code is not run here. Load it with torch.jit.load where it was "
            'made and save its weights: torch.save(dict(model.state_dict()), "weights.pt")'
        )
    if "archive_format" in inner or any(name.endswith("serialized_exported_program.json") for name in names):
        raise InvalidModel(f"the file is a program made by torch.export, not a state dict. {_SAVE}")
    if "data.pkl" not in inner:
        raise InvalidModel(f"the file is a zip, but not one that torch.save wrote. {_SAVE}")
    return True


def _unpicklable(error: pickle.UnpicklingError) -> InvalidModel:
    found = re.search(r"GLOBAL ([\w.]{1,200}) was not an allowed global", str(error))
    if found is None:
        return _damaged(error)
    return InvalidModel(
        f"the file holds pickled Python objects (the first is {found[1]}), not tensors alone; nothing of it was run. "
        "A whole pickled model needs its code to be read, so it is never loaded here. Where it was made, save its "
        'state dict and upload that:\n    model = torch.load("model.pt", weights_only=False)\n'
        '    torch.save(model.state_dict(), "weights.pt")'
    )


def _damaged(error: Exception) -> InvalidModel:
    return InvalidModel(
        f"the file is not a PyTorch state dict, or it is cut off or damaged ({_shortened(error)}). "
        f"If it was whole before the upload, upload it again. {_SAVE}"
    )


def _tensors(content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping):
        raise InvalidModel(f"the file holds a {type(content).__name__}, not a state dict. {_SAVE}")
    others = [
        f"{str(key)[:80]} ({type(value).__name__})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if others:
        more = f" and {len(others) - 12} more" if len(others) > 12 else ""
        raise InvalidModel(f"the file's dict holds more than named tensors: {', '.join(others[:12])}{more}. {_SAVE}")
    return dict(content)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _plain(name: str, tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise InvalidModel(
            f"tensor {name[:200]!r} is sparse, quantised, complex or empty of data; save it as dense fp32"
        )
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _shortened(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
