"""Zips and tars: their members, and the bytes of each. Nothing is extracted to disk."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.expansion import check_expansion
from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_MEMBER_BYTES, MAX_MEMBERS
from modelpress.engine.data.tar_stream import open_unpacked
from modelpress.spec.failure import InvalidDataset


@dataclass(frozen=True)
class Entry:
    """One member of an archive."""

    name: str
    size: int  # bytes, unpacked
    folder: bool = False


@dataclass(frozen=True)
class Archive:
    """An open archive. Its members are best read in their order, so that a compressed tar is walked through once."""

    entries: tuple[Entry, ...]
    read: Callable[[int], bytes]  # the bytes of the member at a place


@contextmanager
def open_zip(path: Path) -> Iterator[Archive]:
    """A zip. Raises InvalidDataset, for what is wrong with the archive and for damage met while it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_count(len(infos))
            for info in infos:
                if info.flag_bits & 1:
                    raise InvalidDataset(f"{info.filename} is encrypted; make the zip without a password")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise _no_file(info.filename)
            check_expansion(sum(info.file_size for info in infos), path.stat().st_size)
            entries = tuple(Entry(info.filename, info.file_size, folder=info.is_dir()) for info in infos)
            _check_names(entries)

            def read(place: int) -> bytes:
                _check_size(entries[place])
                return archive.read(infos[place])

            yield Archive(entries, read)
    except DAMAGED as error:
        raise InvalidDataset(f"the zip is damaged ({error}); make it again and upload it again") from error


@contextmanager
def open_tar(path: Path) -> Iterator[Archive]:
    """A tar, compressed or not. Raises InvalidDataset as `open_zip` does."""
    try:
        file = open_unpacked(path)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:") as archive:
                members = _members(archive)
                entries = tuple(Entry(member.name, member.size, folder=member.isdir()) for member in members)
                _check_names(entries)

                def read(place: int) -> bytes:
                    _check_size(entries[place])
                    content = archive.extractfile(members[place])
                    return b"" if content is None else content.read()

                yield Archive(entries, read)
        finally:
            file.close()
    except DAMAGED as error:
        raise InvalidDataset(f"the tar is damaged ({error}); make it again and upload it again") from error


def is_tar(path: Path) -> bool:
    """Does the file begin as a tar does, once it is unpacked? Raises InvalidDataset when it cannot be unpacked."""
    file = open_unpacked(path)
    try:
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    except DAMAGED as error:
        raise InvalidDataset(f"the tar is damaged ({error}); make it again and upload it again") from error
    finally:
        file.close()
    return True


def _members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    size = 0
    for member in archive:
        if not (member.isdir() or (member.isreg() and not member.issparse())):
            raise _no_file(member.name)
        members.append(member)
        size += member.size
        _check_count(len(members))
        # Walking through a compressed tar unpacks it, so its whole content is bounded, not its images alone.
        if size > MAX_DECODED_BYTES:
            raise InvalidDataset(f"the tar unpacks to more than {MAX_DECODED_BYTES >> 30} GiB; use fewer images")
    # tarfile takes the end of the file for the end of the archive, so a tar that was cut off would lack images unseen.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise InvalidDataset("the tar is cut off: the mark of its end is missing; upload it whole")
    return members


def _no_file(name: str) -> InvalidDataset:
    return InvalidDataset(f"{name} is a link or a device, not a file; pack the files themselves (`tar --dereference`)")


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise InvalidDataset(f"the archive has more than {MAX_MEMBERS} members; use fewer images")


def _check_names(entries: Iterable[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if ".." in entry.name.replace("\\", "/").split("/"):
            raise InvalidDataset(f"{entry.name} leads out of the archive; pack the folder itself, without `..`")
        if entry.name in seen and not entry.folder:
            raise InvalidDataset(f"{entry.name} is in the archive twice; pack each file once")
        seen.add(entry.name)


def _check_size(entry: Entry) -> None:
    if entry.size > MAX_MEMBER_BYTES:
        raise InvalidDataset(
            f"{entry.name} has {entry.size} bytes, the limit is {MAX_MEMBER_BYTES}; remove or split it"
        )
