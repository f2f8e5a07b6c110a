"""npz and npy files whose headers lie."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

from tests.hostile import good
from tests.hostile.hostile_file import CANARY, HostileFile

_CODE = f"__import__('os').system('touch {CANARY}')"


def files(seed: int) -> Iterator[HostileFile]:
    """Each header in place of each array's."""
    for what, header in _headers().items():
        for version in (1, 2, 3):
            array = _array(header, version)
            yield HostileFile(f"arrays/npy {what} version {version}", "dataset", array)
            for name in ("images", "labels"):
                yield HostileFile(f"arrays/{name} {what} version {version}", "dataset", _npz_with(name, array))
    for length in (0, 1, 9, 0xFFFF):
        wrong = b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + b"{}"
        yield HostileFile(f"arrays/header of {length}", "dataset", _npz_with("images", wrong))
    for length in (1 << 31, 0xFFFF_FFFF):
        wrong = b"\x93NUMPY\x02\x00" + struct.pack("<L", length) + b"{}"
        yield HostileFile(f"arrays/header of {length}", "dataset", _npz_with("images", wrong))


def _headers() -> dict[str, str]:
    def header(descr: str = "'|u1'", shape: str = "(12, 4, 4, 3)", fortran: str = "False") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"

    found = {
        f"shape {n}": header(shape=s)
        for n, s in enumerate(
            (
                "(1099511627776, 4, 4, 3)",
                "(4294967296, 4294967296)",
                "(-1, 4, 4, 3)",
                "(-12, -4, 4, 3)",
                "(0, 4, 4, 3)",
                "(12, 0, 0, 3)",
                "()",
                "(12.0, 4, 4, 3)",
                "12",
                "'12'",
                "None",
                "(True, 4, 4, 3)",
                "(5000000, 1, 1, 1)",
                "(" + "1, " * 100 + ")",
                "(" + "9" * 5000 + ",)",
                "(1, 100000, 100000, 3)",
            )
        )
    }
    found |= {
        f"type {n}": header(descr=d)
        for n, d in enumerate(
            (
                "'|O'",
                "[('a', '|O')]",
                "'V1000000000'",
                "'U2000000000'",
                "'|u9'",
                "None",
                "''",
                "'O8'",
                "'<M8[ns]'",
                "[('a', 'u1')] * 1000",
                "('u1', (1000000, 1000000))",
                "[('a', [('b', [('c', '|O')])])]",
            )
        )
    }
    found |= {
        "code": _CODE,
        "code as shape": header(shape=_CODE),
        "code as type": header(descr=_CODE),
        "no order": "{'descr': '|u1', 'shape': (12, 4, 4, 3)}",
        "an order that is none": header(fortran="'x'"),
        "deep": "(" * 5000 + ")" * 5000,
        "unary": "-" * 9000 + "1",
        "a list": "[]",
        "nothing": "",
        "not closed": "{'descr'",
        "zeros": "\x00" * 100,
    }
    return found


def _array(header: str, version: int) -> bytes:
    text = header.encode() + b"\n"
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<L", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(576)


def _npz_with(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good.npz())) as source, zipfile.ZipFile(file, "w") as target:
        for info in source.infolist():
            is_it = info.filename == f"{name}.npy"
            target.writestr(zipfile.ZipInfo(info.filename), content if is_it else source.read(info))
    return file.getvalue()
