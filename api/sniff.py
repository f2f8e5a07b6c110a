"""A quick look at an uploaded file: is it of a kind that can be inspected at all?

Only what cannot be is refused here, with a sentence that says what to do; everything else is for the inspection, in
a process of its own. So nothing is unpickled, little is unpacked, and no more than a few megabytes are read.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

from modelpress.spec.described_file import COMPACT_MAGIC, METADATA_KEY, is_exported, is_onnx
from modelpress.spec.failure import InvalidDataset, InvalidModel
from modelpress.spec.foreign_model import (
    SAVE,
    TRANSFORMERS_NAMES,
    foreign_bytes,
    foreign_members,
    names_of_transformers,
    whole_model,
)
from modelpress.spec.inspection import DatasetFormat, ModelFormat

_HEAD_BYTES = 4096
_MOST_HEADER_BYTES = 8 << 20  # of safetensors: some 70,000 tensors
_MOST_INDEX_BYTES = 4 << 20  # of a zip file whose names are looked at: some 60,000 entries
_ZIP_END = struct.Struct("<4s4H2LH")
_ZIP_MOST_COMMENT = 0xFFFF
_ZIP64_LOCATOR_BYTES = 20
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")
_UNKNOWN_BYTES = 1 << 64
_TAR_BLOCK = 512
_MOST_TAR_MEMBERS = 200
_MOST_UNPACKED_BYTES = 1 << 20

# A header or an index takes up to thirty times its length when it is taken apart; so few are at once.
_LOOKING = threading.BoundedSemaphore(2)

_PACK = (
    "pack folders of images by class into a zip or tar, or save arrays with `numpy.savez(file, images=..., labels=...)`"
)


def sniff_model(path: Path) -> ModelFormat:
    """Format of an uploaded model. Raises InvalidModel."""
    with _LOOKING:
        return _sniff_model(path)


def _sniff_model(path: Path) -> ModelFormat:
    size = path.stat().st_size
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _torch_zip_format(path)
    if head.startswith(COMPACT_MAGIC):
        return "compact"
    if is_onnx(head):
        return "onnx"
    for matches, message in _PICKLES:
        if matches(head):
            raise InvalidModel(message)
    foreign = foreign_members(_tar_names(path, head)) or foreign_bytes(head)
    if foreign is not None:
        raise InvalidModel(foreign)
    if size >= 10 and head[8:9] == b"{":
        _check_safetensors(path, size)
        return "safetensors"
    raise InvalidModel(f"this is neither a safetensors file nor a state dict saved by PyTorch; {SAVE}")


def describes_network(path: Path, format: ModelFormat) -> bool:
    """Whether a file that `sniff_model` found to be of this format says itself which network it holds."""
    if format != "safetensors":
        return format in ("pt2", "onnx", "compact")
    with _LOOKING, path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata = header.get("__metadata__")
    return isinstance(metadata, dict) and METADATA_KEY in metadata


def sniff_dataset(path: Path) -> DatasetFormat:
    """Format of an uploaded data set. Raises InvalidDataset."""
    head = _head(path)
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PAR1"):
        if not _ends_with(path, b"PAR1"):
            raise InvalidDataset(
                "the Parquet file is truncated: its description, at the end, is missing; upload it whole"
            )
        return "parquet"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "tar"  # packed by zstandard, which the inspection unpacks: nothing of this process can
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if _zip_index_bytes(path) is None:
            raise InvalidDataset("the zip file is truncated: its index, at the end, is missing; upload it whole")
        if head.startswith(b"PK\x05\x06"):
            raise InvalidDataset(f"the zip file holds no files; {_PACK}")
        return "npz" if _first_zip_name(head).endswith(".npy") else "zip"
    unpack = next((unpack for magic, unpack in _UNPACKERS.items() if head.startswith(magic)), None)
    try:
        block = (unpack(head, _TAR_BLOCK) if unpack else head)[:_TAR_BLOCK]
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except (tarfile.HeaderError, EOFError, OSError, ValueError, *_UNPACKING) as error:
        if unpack:
            raise InvalidDataset(f"this compressed file holds no tar; {_PACK}") from error
        for magic, message in _OTHER_DATASETS.items():
            if head.startswith(magic):
                raise InvalidDataset(message) from error
        raise InvalidDataset(f"this is neither a zip, a tar, an npz, an npy nor a Parquet file; {_PACK}") from error
    return "tar"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _ends_with(path: Path, end: bytes) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(end)))
        return size > len(end) and file.read() == end


_PICKLES: list[tuple[Callable[[bytes], bool], str]] = [
    (
        lambda head: head.startswith(COMPACT_MAGIC[:4]),
        "this is a compact container that was altered on its way, as a copy in text mode does; download it again",
    ),
    (
        # The first thing in a file that PyTorch wrote before version 1.6 is its magic number, pickled.
        lambda head: head[:1] == b"\x80" and b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in head[:32],
        f"this is a file in the format of PyTorch before 1.6; load it with a newer PyTorch, then {SAVE}",
    ),
    (
        lambda head: head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05" and len(head) > 1,
        f"this is a bare pickle, which could run code when loaded and is never read; {SAVE}",
    ),
]

_OTHER_DATASETS: dict[bytes, str] = {
    b"\x89HDF\r\n\x1a\n": f"this is an HDF5 file; {_PACK}",
    b"PARE": f"this is an encrypted Parquet file; save it without encryption, or {_PACK}",
    b"ARROW1": "this is an Arrow file; save it as Parquet: `dataset.to_parquet('data.parquet')`",
    b"\x80": f"this is a pickle, which could run code when loaded and is never read; {_PACK}",
    b"7z\xbc\xaf\x27\x1c": f"7z files cannot be read; {_PACK}",
    b"Rar!": f"rar files cannot be read; {_PACK}",
    b"\x89PNG": f"this is a single image; {_PACK}",
    b"\xff\xd8\xff": f"this is a single image; {_PACK}",
    b"version https://git-lfs": "this is a pointer of Git LFS, not the file itself; run `git lfs pull`, then upload it",
}


def _unzlib(packed: bytes, most: int) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(packed, most)


def _unbz2(packed: bytes, most: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(packed, most)


def _unxz(packed: bytes, most: int) -> bytes:
    return lzma.LZMADecompressor(memlimit=256 << 20).decompress(packed, most)


_UNPACKING = (zlib.error, lzma.LZMAError)  # what damaged members raise
_UNPACKERS: dict[bytes, Callable[[bytes, int], bytes]] = {b"\x1f\x8b": _unzlib, b"BZh": _unbz2, b"\xfd7zXZ": _unxz}


def _check_safetensors(path: Path, size: int) -> None:
    # 8 bytes: length n of the header; n bytes: JSON; then the tensors, without a gap
    # (https://huggingface.co/docs/safetensors, "Format").
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MOST_HEADER_BYTES:
            raise InvalidModel(f"this is no safetensors file: its header would be {length:,} bytes long; {SAVE}")
        if 8 + length > size:
            raise InvalidModel(
                f"the safetensors file is truncated: its header should have {length:,} bytes, the file has {size:,}; "
                "upload it whole"
            )
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [_tensor_end(entry) for entry in header.values()]
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
            raise InvalidModel(f"this is no safetensors file: its header cannot be read; {SAVE}") from error
    if not ends:
        raise InvalidModel(f"the safetensors file holds no tensors; {SAVE}")
    expected = 8 + length + max(ends)
    if size < expected:
        raise InvalidModel(
            f"the safetensors file is truncated: it should have {expected:,} bytes, it has {size:,}; upload it whole"
        )
    if size > expected:
        raise InvalidModel(
            f"the safetensors file is damaged: {size - expected:,} bytes follow its last tensor; save it again"
        )
    if names_of_transformers(header):
        raise InvalidModel(TRANSFORMERS_NAMES)


def _tensor_end(entry: dict[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end):
        raise ValueError("offsets that are none")
    return end


def _torch_zip_format(path: Path) -> Literal["pt", "pt2"]:
    index_bytes = _zip_index_bytes(path)
    try:
        if index_bytes is None:
            raise zipfile.BadZipFile
        if index_bytes > _MOST_INDEX_BYTES:
            return "pt"
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            pickled = _start_of_pickle(archive)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, *_UNPACKING) as error:
        raise InvalidModel("the file is truncated: its index, at the end, is missing; upload it whole") from error
    # PyTorch puts everything into one folder, named after the file.
    inner = {name.partition("/")[2] for name in names}
    foreign = foreign_members(names)
    if foreign is not None:
        raise InvalidModel(foreign)
    if is_exported(names):
        return "pt2"
    if "serialized_exported_program.json" in inner | names:
        raise InvalidModel("this was written by `torch.export.save` of PyTorch before 2.8; export it with a newer one")
    if names and all(name.endswith(".npy") for name in names):
        raise InvalidModel(f"this is an npz file of numpy arrays, not a model; {SAVE}")
    if "data.pkl" not in inner:
        raise InvalidModel(f"this is a zip file, but none that PyTorch saved; {SAVE}")
    whole = whole_model(pickled)
    if whole is not None:
        raise InvalidModel(whole)
    return "pt"


def _start_of_pickle(archive: zipfile.ZipFile) -> bytes:
    for member in archive.infolist():
        # PyTorch packs and encrypts nothing; of bzip2 and LZMA the first bytes can be had with all the others alone.
        is_plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if member.filename.endswith("/data.pkl") and is_plain:
            with archive.open(member) as file:
                return file.read(_HEAD_BYTES)
    return b""


def _tar_names(path: Path, head: bytes) -> set[str]:
    """Names of the first members of a tar; of a compressed one, of those in its first megabyte. None of other files."""
    unpack = next((unpack for magic, unpack in _UNPACKERS.items() if head.startswith(magic)), None)
    try:
        with path.open("rb") as file:
            if unpack is None:
                return _names_in_blocks(file)
            return _names_in_blocks(io.BytesIO(unpack(file.read(_MOST_UNPACKED_BYTES), _MOST_UNPACKED_BYTES)))
    except (EOFError, OSError, OverflowError, ValueError, *_UNPACKING):
        return set()


def _names_in_blocks(file: BinaryIO) -> set[str]:
    # By header blocks alone: `tarfile` would read what they claim of long names into memory.
    names: set[str] = set()
    for _ in range(_MOST_TAR_MEMBERS):
        try:
            member = tarfile.TarInfo.frombuf(file.read(_TAR_BLOCK), tarfile.ENCODING, "surrogateescape")
        except tarfile.HeaderError:
            break
        if member.size < 0:
            break
        names.add(member.name)
        file.seek(-(-member.size // _TAR_BLOCK) * _TAR_BLOCK, os.SEEK_CUR)
    return names


def _zip_index_bytes(path: Path) -> int | None:
    """Length of a zip file's index; None where the record that ends every zip file is missing."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _ZIP_END.size - _ZIP_MOST_COMMENT - _ZIP64_LOCATOR_BYTES - _ZIP64_END.size))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _ZIP_END.size:
        return None
    index_bytes: int = _ZIP_END.unpack_from(tail, at)[5]
    # Where ZIP64's records (APPNOTE.TXT 4.3.14 and 4.3.15) lie before it, whoever reads the index believes those.
    locator = at - _ZIP64_LOCATOR_BYTES
    if locator < 0 or not tail.startswith(b"PK\x06\x07", locator):
        return index_bytes
    record = locator - _ZIP64_END.size
    if record < 0 or not tail.startswith(b"PK\x06\x06", record):
        return _UNKNOWN_BYTES
    return max(index_bytes, int(_ZIP64_END.unpack_from(tail, record)[8]))


def _first_zip_name(head: bytes) -> str:
    # Local file header (APPNOTE.TXT 4.3.7): the length of the name stands at 26, the name at 30.
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].decode("utf-8", "replace")
