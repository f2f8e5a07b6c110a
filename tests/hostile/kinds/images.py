"""Images that claim to be huge, are none, or are of a kind whose decoder does more than decode."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.hostile import good
from tests.hostile.hostile_file import COMMAND, HostileFile
from tests.hostile.kinds import tars, zips
from tests.support.archives import picture


def files(seed: int) -> Iterator[HostileFile]:
    """Each in a zip and in a tar, beside good ones."""
    for what, (suffix, content) in _images().items():
        members = {**good.folders(), f"cat/0{suffix}": content}
        # A decoder stops where the picture ends, and leaves what follows packed.
        may_be_taken = what == "pixels that are a bomb"
        yield HostileFile(f"images/{what} in a zip", "dataset", zips.pack(members.items()), may_be_taken)
        yield HostileFile(f"images/{what} in a tar", "dataset", tars.pack(members), may_be_taken)


def _images() -> dict[str, tuple[str, bytes]]:
    found: dict[str, tuple[str, bytes]] = {}
    for width, height in ((100_000, 100_000), (0, 0), (1, 1 << 31), (0x7FFF_FFFF, 0x7FFF_FFFF), (65_500, 65_500)):
        found[f"png {width} x {height}"] = (".png", _png(width, height))
    for width, height in ((65_500, 65_500), (0, 0)):
        jpeg = bytearray(picture(kind="JPEG"))
        at = jpeg.index(b"\xff\xc0")
        struct.pack_into(">HH", jpeg, at + 5, height, width)
        found[f"jpeg {width} x {height}"] = (".jpg", bytes(jpeg))
    bmp = bytearray(picture(kind="BMP"))
    struct.pack_into("<ii", bmp, 18, 100_000, 100_000)
    found["bmp 100000 x 100000"] = (".bmp", bytes(bmp))
    struct.pack_into("<ii", bmp, 18, -1, -(1 << 31))
    found["bmp negative"] = (".bmp", bytes(bmp))
    gif = bytearray(picture(kind="GIF", mode="L"))
    struct.pack_into("<HH", gif, 6, 65_535, 65_535)
    found["gif 65535 x 65535"] = (".gif", bytes(gif))
    found["ppm 100000 x 100000"] = (".ppm", b"P6\n100000 100000\n255\n")
    found["ppm of nines"] = (".ppm", b"P6\n" + b"9" * 100_000 + b" 1\n255\n")
    found["text chunk that is a bomb"] = (".png", _png(6, 5, [(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(1 << 27)))]))
    found["profile that is a bomb"] = (".png", _png(6, 5, [(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(1 << 27)))]))
    found["pixels that are a bomb"] = (".png", _png(6, 5, pixels=bytes(1 << 27)))
    found["chunk of 4 GiB"] = (".png", picture()[:33] + b"\xff\xff\xff\xffIDAT")
    found["eps"] = (".png", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n({COMMAND}) system\n".encode())
    found["pdf"] = (".png", b"%PDF-1.7\n")
    found["svg"] = (".png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>')
    found["tiff that points at itself"] = (".tif", b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00")
    found["tiff of 65535 entries"] = (".tif", b"II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 4000)
    found["zip for an image"] = (".png", good.zipped())
    found["empty"] = (".png", b"")
    found["pickle for an image"] = (".png", b"\x80\x02cos\nsystem\n.")
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("BMP", ".bmp"), ("GIF", ".gif"), ("TIFF", ".tif")):
        whole = picture(3, kind=kind)
        for cut in (1, 8, 20, len(whole) // 2):
            found[f"{kind} cut at {cut}"] = (suffix, whole[:cut])
    return found


def _png(width: int, height: int, chunks: list[tuple[bytes, bytes]] | None = None, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    more = b"".join(chunk(kind, data) for kind, data in chunks or [])
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
