"""Zips and tars of class folders. Nothing is extracted to disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.decode import decode_images
from modelpress.engine.data.folders import Entry, arrange
from modelpress.engine.data.labelled import DatasetContent, LabelledImages
from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_IMAGE_FILE_BYTES, MAX_MEMBERS
from modelpress.spec.failure import InvalidDataset


def read_zip(path: Path) -> DatasetContent:
    """Read a zip of class folders. Raises InvalidDataset."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_count(len(infos))
            entries = [Entry(info.filename, info.file_size, folder=info.is_dir()) for info in infos]
            locked = next((info.filename for info in infos if info.flag_bits & 1), None)
            if locked is not None:
                raise InvalidDataset(f"{locked} is encrypted; make the zip without a password")
            return _read(entries, lambda place: archive.read(infos[place]))
    except DAMAGED as error:
        raise InvalidDataset(f"the zip is damaged ({error}); make it again and upload it again") from error


def read_tar(path: Path) -> DatasetContent:
    """Read a tar of class folders, compressed or not. Raises InvalidDataset."""
    try:
        with tarfile.open(path) as archive:
            members: list[tarfile.TarInfo] = []
            size = 0
            for member in archive:
                members.append(member)
                size += member.size
                _check_count(len(members))
                # Walking through a compressed tar unpacks it, so its whole content is bounded, not its images alone.
                if size > MAX_DECODED_BYTES:
                    raise InvalidDataset(
                        f"the tar unpacks to more than {MAX_DECODED_BYTES >> 30} GiB; use fewer images"
                    )
            entries = [Entry(member.name, member.size, folder=member.isdir()) for member in members]

            def read(place: int) -> bytes:
                file = archive.extractfile(members[place]) if members[place].isfile() else None
                if file is None:
                    raise InvalidDataset(f"{members[place].name} is a link, not a file; pack the files themselves")
                return file.read()

            return _read(entries, read)
    except DAMAGED as error:
        raise InvalidDataset(f"the tar is damaged ({error}); make it again and upload it again") from error


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise InvalidDataset(f"the archive has more than {MAX_MEMBERS} members; use fewer images")


def _read(entries: list[Entry], read: Callable[[int], bytes]) -> DatasetContent:
    layout = arrange(entries)
    for image in layout.images:
        if entries[image.place].size > MAX_IMAGE_FILE_BYTES:
            raise InvalidDataset(
                f"{image.name} has {entries[image.place].size} bytes, the limit is {MAX_IMAGE_FILE_BYTES}; "
                "images are small pictures of one size"
            )
    pixels = decode_images([image.name for image in layout.images], [image.place for image in layout.images], read)
    labels = np.array([image.label for image in layout.images], dtype=np.int64)
    heldout = np.array([image.heldout for image in layout.images], dtype=bool)
    whole = LabelledImages(pixels, labels)
    if not heldout.any():
        return DatasetContent(layout.classes, whole, None)
    return DatasetContent(layout.classes, whole.take(~heldout), whole.take(heldout))
