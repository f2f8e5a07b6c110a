"""What the pickle in a `.pt` file may name: tensors and plain Python data, and a few things that are passed over.

Checkpoints often have a training script's arguments or a numpy number beside the state dict. torch's restricted
unpickler refuses the whole file for them. Here each of the names below stands for an inert object of our own: nothing
of numpy's or argparse's is made or called, and what was in it is forgotten. Every other name is refused.
"""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from modelpress.spec.failure import InvalidModel
from modelpress.spec.foreign_model import EXPORT, pickled_objects

_MOST_PICKLE_BYTES = 64 << 20


class Aside:
    """Stands for an object that is passed over."""

    def __init__(self, *_args: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


_LEFT_ASIDE = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
)
# Dicts with more to them, filled item by item.
_DICTS = (
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)


def load(path: Path, *, mmap: bool) -> Any:
    """What a `.pt` file holds, on the CPU. Raises InvalidModel for a pickle that names anything else, and whatever
    torch's unpickler does for bytes that mean nothing."""
    # torch leaves its type without an annotation.
    allowed: list[Any] = [(Aside, name) for name in _LEFT_ASIDE] + [(dict, name) for name in _DICTS]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]{1,200}) (?:was not an allowed global|whose module)", str(error))
        if found is None:
            raise
        raise InvalidModel(_refusal(found[1], key_before(path, found[1]))) from error


def key_before(path: Path, name: str) -> str | None:
    """The text that stands before the first object of this name, which is its key where it is in a dict.

    Only zip files are looked into, and nothing is carried out of the pickle: its operations are listed.
    """
    key: str | None = None
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile, NotImplementedError, StopIteration):
        with zipfile.ZipFile(path) as archive:
            member = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
            if member.file_size > _MOST_PICKLE_BYTES or member.compress_type != zipfile.ZIP_STORED:
                return None
            pickled = archive.read(member)
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "GLOBAL":
                if str(argument).replace(" ", ".") in (name, f"__builtin__.{name}", f"builtins.{name}"):
                    return key
                key = None
            elif "UNICODE" in operation.name or "STRING" in operation.name:
                key = str(argument)[:80]
            elif "PUT" not in operation.name and operation.name != "MEMOIZE":
                key = None
    return None


def _refusal(name: str, key: str | None) -> str:
    if key is not None:
        return (
            f"the file holds a pickled Python object under the key {key!r} ({name}), not tensors alone; nothing of it "
            "was run. Where it was made, save the state dict by itself and upload that:\n"
            '    checkpoint = torch.load("model.pt", map_location="cpu", weights_only=False)\n'
            '    torch.save(checkpoint["state_dict"], "weights.pt")  # or the key that it has there\n'
            f"If a whole pickled model lies under {key!r}, {EXPORT}"
        )
    return pickled_objects(name)
