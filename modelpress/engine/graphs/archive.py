"""The zip of a `.pt2` file (`torch.export.save`), read member by member and never by torch.

    <name>/models/<model>.json                       the graph
    <name>/data/weights/model_weights_config.json    which member holds which weight, with shape and strides
    <name>/data/weights/weight_0 ...                 raw little-endian numbers
    <name>/data/constants/...                        the same for constants
    <name>/data/sample_inputs/model.pt               a pickle, which is never opened

torch stores all members as they are. A zip that packs them, says two things of one name, or lets members overlap was
not written by torch, and is refused.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from modelpress.engine.architectures.budget import MOST_ELEMENTS, MOST_TENSORS
from modelpress.spec.failure import InvalidModel

AGAIN = "export the model again with torch.export.save of PyTorch 2.9 or later"
_MOST_MEMBERS = 2 * MOST_TENSORS + 100
_MOST_JSON_BYTES = 128 << 20
_MOST_DIMENSIONS = 16

# torch/_export/serde/schema.py, ScalarType.
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_STRIDED = 7


class Archive:
    """An open `.pt2` file. Every method raises InvalidModel for what torch would not have written."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        try:
            self._members = self._listed(path.stat().st_size)
            self._root = self._common_root()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    def program(self) -> dict[str, Any]:
        """The graph as JSON."""
        names = [name for name in self._members if self._inner(name).startswith("models/") and name.endswith(".json")]
        if len(names) != 1:
            raise InvalidModel(f"the .pt2 file holds {len(names)} programs, where one is needed; {AGAIN}")
        return self._json(names[0])

    def weights(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by name."""
        return self._tensors("data/weights", "weights_config.json")

    def constants(self) -> dict[str, Tensor]:
        """Tensors that the graph uses beside them by name."""
        return self._tensors("data/constants", "constants_config.json")

    def _listed(self, size: int) -> dict[str, zipfile.ZipInfo]:
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._zip.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise InvalidModel(f"the .pt2 file is cut off or damaged; upload it whole, or {AGAIN}") from error
        if len(members) > _MOST_MEMBERS:
            raise InvalidModel(f"the .pt2 file has {len(members):,} members; at most {_MOST_MEMBERS:,} are read")
        named: dict[str, zipfile.ZipInfo] = {}
        end = 0
        for member in sorted(members, key=lambda member: member.header_offset):
            name = member.filename
            if name in named or "\\" in name or name.startswith("/") or ".." in name.split("/"):
                raise InvalidModel(f"the .pt2 file holds a member {name[:100]!r} twice, or outside of its folder")
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
                raise InvalidModel(
                    f"member {name[:100]!r} of the .pt2 file is compressed or encrypted, as torch writes none; {AGAIN}"
                )
            if member.file_size != member.compress_size or member.header_offset < end:
                raise InvalidModel(f"member {name[:100]!r} of the .pt2 file overlaps another; {AGAIN}")
            # 30 bytes and the name are the least that stands before a member's content (APPNOTE.TXT 4.3.7).
            end = member.header_offset + 30 + len(name.encode()) + member.file_size
            if end > size:
                raise InvalidModel(f"the .pt2 file is cut off within {name[:100]!r}; upload it whole")
            named[name] = member
        return named

    def _common_root(self) -> str:
        roots = {name.partition("/")[0] for name in self._members}
        if any("serialized_exported_program.json" in name for name in self._members):
            raise InvalidModel(f"the file was written by torch.export.save of PyTorch before 2.8; {AGAIN}")
        if len(roots) != 1:
            raise InvalidModel(f"the file is a zip, but none that torch.export.save wrote; {AGAIN}")
        root = roots.pop()
        for name in self._members:
            inner = self._inner(name, root)
            if inner.startswith(("data/aotinductor", "data/custom", "extra/custom")) or name.endswith((".so", ".dll")):
                raise InvalidModel(
                    f"the .pt2 file holds {inner[:100]!r}, which is compiled code or a custom object; export the plain "
                    "module with torch.export.export and torch.export.save"
                )
        return root

    def _inner(self, name: str, root: str | None = None) -> str:
        return name.removeprefix(f"{self._root if root is None else root}/")

    def _content(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise InvalidModel(f"member {name[:100]!r} of the .pt2 file is damaged; upload the file again") from error

    def _json(self, name: str) -> dict[str, Any]:
        if self._members[name].file_size > _MOST_JSON_BYTES:
            raise InvalidModel(f"{self._inner(name)[:100]!r} of the .pt2 file is larger than 128 MiB")
        try:
            content = json.loads(self._content(name))
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"{self._inner(name)[:100]!r} of the .pt2 file is no JSON; {AGAIN}") from error
        if not isinstance(content, dict):
            raise InvalidModel(f"{self._inner(name)[:100]!r} of the .pt2 file is not what torch writes; {AGAIN}")
        return content

    def _tensors(self, folder: str, config: str) -> dict[str, Tensor]:
        names = [name for name in self._members if self._inner(name).startswith(f"{folder}/") and name.endswith(config)]
        if not names:
            return {}
        entries = self._json(names[0]).get("config")
        if not isinstance(entries, dict) or len(entries) > MOST_TENSORS:
            raise InvalidModel(f"the .pt2 file does not list its weights as torch does; {AGAIN}")
        storages: dict[str, bytes] = {}
        elements, found = 0, {}
        for name, entry in entries.items():
            try:
                tensor = self._tensor(folder, entry, storages)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise InvalidModel(f"weight {name[:100]!r} of the .pt2 file is not described as torch does") from error
            elements += tensor.numel()
            if elements > MOST_ELEMENTS:
                raise InvalidModel(f"the .pt2 file's weights have more than {MOST_ELEMENTS:,} elements")
            found[name] = tensor
        return found

    def _tensor(self, folder: str, entry: Mapping[str, Any], storages: dict[str, bytes]) -> Tensor:
        if entry["use_pickle"]:
            raise InvalidModel(f"the .pt2 file holds pickled weights, which could run code and are never read; {AGAIN}")
        member = f"{self._root}/{folder}/{entry['path_name']}"
        if member not in self._members:
            raise InvalidModel(f"the .pt2 file lacks {member[:100]!r}; upload it whole")
        if member not in storages:
            storages[member] = self._content(member)
        meta = entry["tensor_meta"]
        if meta["dtype"] not in DTYPES or meta["layout"] != _STRIDED:
            raise InvalidModel(
                f"a weight of the .pt2 file is of type {meta['dtype']}, layout {meta['layout']}; "
                "plain, dense numbers are taken"
            )
        return placed(
            storages[member],
            DTYPES[meta["dtype"]],
            [whole(size) for size in meta["sizes"]],
            [whole(stride) for stride in meta["strides"]],
            whole(meta["storage_offset"]),
        )


def whole(size: Mapping[str, Any]) -> int:
    """A number that the file gives as `{"as_int": n}`. Raises ValueError for any other."""
    number = size["as_int"]
    if type(number) is not int or not 0 <= number < 2**48:
        raise ValueError(number)
    return number


def placed(storage: bytes, dtype: torch.dtype, sizes: list[int], strides: list[int], offset: int) -> Tensor:
    """A tensor of its own, copied from where it lies in `storage`.

    `strides` and `offset` count elements. Raises InvalidModel when any of it would lie outside.
    """
    if len(sizes) != len(strides) or len(sizes) > _MOST_DIMENSIONS:
        raise InvalidModel("a weight of the .pt2 file has as many strides as it has dimensions, and at most 16 of them")
    count = 1
    for size in sizes:
        count *= size
    if count == 0:
        return torch.empty(sizes, dtype=dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    # A stride of 0 would make many numbers of one.
    if (last + 1) * dtype.itemsize > len(storage) or count * dtype.itemsize > len(storage):
        raise InvalidModel("a weight of the .pt2 file lies outside of what is stored for it; upload the file whole")
    # Seen where it lies, and only its own numbers copied: many weights may lie in one large storage.
    size = dtype.itemsize
    numbers = np.lib.stride_tricks.as_strided(
        np.frombuffer(storage, dtype=np.uint8, offset=offset * size),
        shape=(*sizes, size),
        strides=(*(stride * size for stride in strides), 1),
        writeable=False,
    )
    return torch.from_numpy(numbers.copy(order="C")).view(dtype).reshape(sizes)
