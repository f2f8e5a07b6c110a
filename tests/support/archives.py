"""Data set files for tests: zips and tars of class folders, with real encoded images."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import zstandard
from PIL import Image


def picture(seed: int = 0, *, mode: str = "RGB", size: tuple[int, int] = (6, 5), kind: str = "PNG") -> bytes:
    """An encoded image of noise; `size` is width and height."""
    width, height = size
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels).convert(mode).save(file, kind)
    return file.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    """What an encoded image shows, (H, W) or (H, W, C)."""
    return np.asarray(Image.open(io.BytesIO(file)))


def write_zip(path: Path, files: Mapping[str, bytes], folders: tuple[str, ...] = ()) -> Path:
    """A zip of these files, in this order."""
    with zipfile.ZipFile(path, "w") as archive:
        for folder in folders:
            archive.writestr(folder.rstrip("/") + "/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], compression: str = "gz") -> Path:
    """A tar of these files, in this order."""
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]  # the mode is computed
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zst(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of these files, packed by zstandard."""
    write_tar(path, files, "")
    path.write_bytes(zstandard.compress(path.read_bytes()))
    return path
