"""Zips that are not what they say: bombs, members over one another, names that lead out, records that lie."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from tests.hostile import good
from tests.hostile.hostile_file import Door, HostileFile
from tests.support.archives import picture

_METHODS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_NAMES = (
    *("../../modelpress-canary", "/tmp/modelpress-canary", "cat/../../modelpress-canary", "..\\modelpress-canary"),  # noqa: S108
    *("C:\\modelpress-canary", "cat/\x00modelpress-canary", "~/modelpress-canary", "cat//dog/../1.png", "./", "//"),
    *("cat/" + "n" * 60_000 + ".png", "a/" * 20_000 + "1.png", "\ud83d.png".encode("utf-8", "surrogatepass").hex()),
)
_BOMB = 1 << 30


def files(seed: int) -> Iterator[HostileFile]:
    """All of them, for each reader of zips."""
    kinds: tuple[tuple[Door, str, bytes], ...] = (
        ("model", "pt", good.pt()),
        ("dataset", "zip", good.zipped()),
        ("dataset", "npz", good.npz()),
    )
    for door, form, whole in kinds:
        members = _members(whole)
        for place, (name, content) in enumerate(members.items()):
            if place > 3:
                break
            yield HostileFile(f"zips/{form} encrypted {name}", door, _flagged(whole, place, 1))
            yield HostileFile(f"zips/{form} unknown method {name}", door, _patched(whole, place, 10, 4711))
            yield HostileFile(
                f"zips/{form} another sum {name}", door, _patched(whole, place, 16, 0xDEADBEEF, "<L"), form == "pt"
            )
            yield HostileFile(
                f"zips/{form} larger {name}", door, _patched(whole, place, 24, 0xFFFF_FFF0, "<L"), form == "npz"
            )
            yield HostileFile(
                f"zips/{form} larger stored {name}", door, _patched(whole, place, 20, 0xFFFF_FFF0, "<L"), form != "pt"
            )
            yield HostileFile(f"zips/{form} elsewhere {name}", door, _patched(whole, place, 42, 0x7FFF_FFFF, "<L"))
            yield HostileFile(f"zips/{form} duplicate {name}", door, pack([*members.items(), (name, content)]), True)
            for method in _METHODS:
                packed = [(n, c, method if n == name else zipfile.ZIP_STORED) for n, c in members.items()]
                yield HostileFile(f"zips/{form} packed by {method} {name}", door, pack(packed), True)
            yield HostileFile(f"zips/{form} symlink {name}", door, _linked(members, name), True)
        yield HostileFile(f"zips/{form} all in one place", door, _overlapping(whole))
        for number, name in enumerate(_NAMES):
            extra = picture(7) if form == "zip" else b"x"
            yield HostileFile(f"zips/{form} name {number}", door, pack([*members.items(), (name, extra)]), True)
        for number, end in enumerate(_ends(whole)):
            yield HostileFile(f"zips/{form} end record {number}", door, end, True)
    yield from _bombs()


def _bombs() -> Iterator[HostileFile]:
    zeros = _zeros(_BOMB)
    header = _npy_header((1 << 10, 1 << 10, 1 << 10))
    yield HostileFile("zips/bomb in npz", "dataset", _raw_deflated("images.npy", header, zeros))
    yield HostileFile("zips/bomb in data.pkl", "model", _raw_deflated("archive/data.pkl", b"\x80\x02", zeros))
    yield HostileFile("zips/bomb in an image", "dataset", _raw_deflated("cat/1.png", b"\x89PNG", zeros))
    yield HostileFile("zips/quine of images", "dataset", _many_of_one(2000, 60 << 20))
    yield HostileFile("zips/ten thousand empty", "dataset", pack([(f"cat/{n}.png", b"") for n in range(10_000)]))
    yield HostileFile("zips/zip in zip", "dataset", pack([("cat/1.png", good.zipped()), ("dog/1.png", good.zipped())]))


def _members(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pack(members: Iterable[tuple[Any, ...]]) -> bytes:
    """A zip of (name, content[, method]); names may come twice."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content, *method in members:
            archive.writestr(zipfile.ZipInfo(name), content, method[0] if method else zipfile.ZIP_STORED)
    return file.getvalue()


def _central(whole: bytes) -> list[int]:
    """Where the entries of the index begin."""
    size, at = struct.unpack_from("<LL", whole, whole.rindex(b"PK\x05\x06") + 12)
    places, end = [], at + size
    while at < end:
        places.append(at)
        at += 46 + sum(struct.unpack_from("<HHH", whole, at + 28))
    return places


def _patched(whole: bytes, place: int, offset: int, value: int, form: str = "<H") -> bytes:
    changed = bytearray(whole)
    struct.pack_into(form, changed, _central(whole)[place] + offset, value)
    return bytes(changed)


def _flagged(whole: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(_patched(whole, place, 8, bit))
    local = struct.unpack_from("<L", whole, _central(whole)[place] + 42)[0]
    struct.pack_into("<H", changed, local + 6, bit)
    return bytes(changed)


def _linked(members: dict[str, bytes], name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            info = zipfile.ZipInfo(member)
            info.create_system = 3
            if member == name:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, b"/etc/passwd" if member == name else content)
    return file.getvalue()


def _overlapping(whole: bytes) -> bytes:
    changed = bytearray(whole)
    places = _central(whole)
    for place in places[1:]:
        changed[place + 42 : place + 46] = whole[places[0] + 42 : places[0] + 46]
    return bytes(changed)


def _ends(whole: bytes) -> Iterator[bytes]:
    """Records at the end that contradict each other, or the file."""
    at = whole.rindex(b"PK\x05\x06")
    for offset, form in ((4, "<H"), (6, "<H"), (8, "<H"), (10, "<H"), (12, "<L"), (16, "<L"), (20, "<H")):
        for value in (0, 1, 0xFFFF) if form == "<H" else (0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF):
            changed = bytearray(whole)
            struct.pack_into(form, changed, at + offset, value)
            yield bytes(changed)
    size, start = struct.unpack_from("<LL", whole, at + 12)
    for claimed in (size, 0, 1 << 33, (1 << 63) - 1, (1 << 64) - 1):
        # ZIP64: a further end record, which is believed before the first.
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, claimed, start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        yield whole[:at] + record + locator + whole[at:]
    yield whole + whole
    yield whole + b"PK\x05\x06" + bytes(18)
    yield b"PK\x05\x06" + bytes(18)
    yield whole[:at] + whole[at:] + b"trailing"


def _zeros(count: int) -> bytes:
    """Deflated: the same block again and again, as each stands for itself."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 22)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (count >> 22) + packer.flush()


def _raw_deflated(name: str, head: bytes, packed: bytes, *, size: int = _BOMB) -> bytes:
    """One member: `head`, then the zeros that `packed` inflates to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + packed
    return _by_hand([(name, 0, data, size + len(head))])


def _many_of_one(count: int, size: int) -> bytes:
    """Many entries of the index, all for the same bytes."""
    data = _zeros(size)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(data), size, 0, 0)
    index = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, 0, len(data), size, 14, 0, 0, 0, 0, 0, 0)
        + f"{'cat' if n % 2 else 'dog'}/{n:06}.png".encode()
        for n in range(count)
    )
    start = len(local) + len(data)
    return local + data + index + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(index), start, 0)


def _by_hand(members: list[tuple[str, int, bytes, int]]) -> bytes:
    body, index = b"", b""
    for name, crc, data, size in members:
        encoded = name.encode()
        index += struct.pack(
            *("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(data), size, len(encoded)),
            *(0, 0, 0, 0, 0, len(body)),
        )
        index += encoded
        body += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(data), size, len(encoded), 0)
        body += encoded + data
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(members), len(members), len(index), len(body), 0)
    return body + index + end


def _npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
