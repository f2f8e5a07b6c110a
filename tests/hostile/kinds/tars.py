"""Tars with members that are no files, names that lead out, and headers that lie or never end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Mapping

from tests.hostile import good
from tests.hostile.hostile_file import HostileFile
from tests.support.archives import picture

_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
_TYPES = {
    "hard link": tarfile.LNKTYPE,
    "symbolic link": tarfile.SYMTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "contiguous": tarfile.CONTTYPE,
    "unknown": b"Z",
}
_TARGETS = ("/etc/passwd", "../../modelpress-canary", "cat/0.png", "cat/1.png", "")


def pack(members: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar."""
    return _tar([(tarfile.TarInfo(name), content) for name, content in members.items()])


def files(seed: int) -> Iterator[HostileFile]:
    """Each compressed in each way."""
    for ending, packer in _PACKERS.items():
        for what, content, may_be_taken in _tars():
            yield HostileFile(f"tars/{what}{ending}", "dataset", packer(content), may_be_taken)
    for what, bomb in _bombs():
        yield HostileFile(f"tars/{what}", "dataset", bomb)


def _tars() -> Iterator[tuple[str, bytes, bool]]:
    whole = [(tarfile.TarInfo(name), content) for name, content in good.folders().items()]
    for what, kind in _TYPES.items():
        for number, target in enumerate(_TARGETS):
            info = tarfile.TarInfo("cat/0.png")
            info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 5
            # A type that is not known is read as a plain file, and so is a contiguous one; a link to a good member.
            yield f"{what} {number}", _tar([*whole, (info, b"")]), target == "cat/1.png"
    for number, name in enumerate(
        ("../../modelpress-canary.png", "/modelpress-canary.png", "cat/../../x.png", "~/x.png")
    ):
        yield f"name {number}", _tar([*whole, (tarfile.TarInfo(name), picture(9))]), True
    for what, headers in {
        "a size of nines": {"size": "9" * 500},
        "a negative size": {"size": "-1"},
        "a size that is no number": {"size": "x"},
        "a path of a million": {"path": "n" * 1_000_000},
        "a link for a path": {"linkpath": "/etc/passwd"},
        "sparse": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1" + "0" * 15},
        "old sparse": {"GNU.sparse.map": "0,1000000000000", "GNU.sparse.size": "1" + "0" * 13},
        "a character set": {"hdrcharset": "x" * 100},
        "times": {"mtime": "nan"},
    }.items():
        info = tarfile.TarInfo("cat/0.png")
        info.pax_headers = headers
        yield f"pax with {what}", _pax([*whole, (info, picture(9))]), True
    block = bytearray(pack(good.folders()))
    for offset, size in ((124, 12), (100, 8), (148, 8), (156, 1), (257, 8), (345, 155)):
        for value in (b"\xff", b"\x80", b"9", b"\x00"):
            changed = bytearray(block)
            changed[offset : offset + size] = value * size
            yield f"field {offset} of {value!r}", bytes(changed), True
            yield f"field {offset} of {value!r} with its sum", _summed(changed), True
    yield "a huge size", _tar([*whole, (_claiming(1 << 40), b"")]), False
    yield "many empty", _tar([(tarfile.TarInfo(f"cat/{n}.png"), b"") for n in range(2000)]), False
    yield "a long name of a gigabyte", _claimed_long_name(1 << 30) + pack(good.folders()), True
    yield "long names for ever", _claimed_long_name(512) * 5000 + pack(good.folders()), True
    yield "only a header", bytes(block[:512]), False


def _bombs() -> Iterator[tuple[str, bytes]]:
    """A little that unpacks to a gigabyte, where a reader has to walk through it or takes it into memory."""
    for ending, opener in {".gz": _PACKERS[".gz"], ".bz2": bz2.compress}.items():
        zeros = opener(bytes(1 << 24)) * 64  # members of a compressed stream follow one another
        for what, info in {
            "an image": _claiming(1 << 30),
            "no image": _claiming(1 << 30, "notes.txt"),
            "a pax header": _claiming(1 << 30, "PaxHeaders/x", tarfile.XHDTYPE),
            "global headers": _claiming(1 << 30, "PaxHeaders/x", tarfile.XGLTYPE),
            "a long name": _claiming(1 << 30, "././@LongLink", tarfile.GNUTYPE_LONGNAME),
        }.items():
            yield f"bomb in {what}{ending}", opener(info.tobuf()) + zeros + opener(pack(good.folders()))


def _claiming(size: int, name: str = "cat/0.png", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def _claimed_long_name(size: int) -> bytes:
    return _claiming(size, "././@LongLink", tarfile.GNUTYPE_LONGNAME).tobuf() + bytes(min(size, 512))


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    parts = []
    for info, content in members:
        if content:
            info.size = len(content)
        parts.append(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    return b"".join(parts) + bytes(1024)


def _pax(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _summed(content: bytearray) -> bytes:
    head = content[:148] + b" " * 8 + content[156:512]
    return bytes(content[:148] + f"{sum(head):06o}\0 ".encode() + content[156:])
