"""safetensors whose header lies: lengths, offsets, shapes, types, depth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.hostile import good
from tests.hostile.hostile_file import Door, HostileFile

# The same tensors all the same.
_HARMLESS = ("more fields", "a name twice")

_DEEP = "[" * 100_000 + "]" * 100_000


def files(seed: int) -> Iterator[HostileFile]:
    """For uploads, and for artifacts that carry their architecture."""
    doors: tuple[tuple[Door, bytes], ...] = (("model", good.safetensors()), ("artifact", good.described_safetensors()))
    for door, whole in doors:
        length = int.from_bytes(whole[:8], "little")
        text, data = whole[8 : 8 + length], whole[8 + length :]
        for claimed in (0, 1, length - 1, length + 1, len(whole), 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1):
            yield HostileFile(
                f"headers/{door} length {claimed}", door, claimed.to_bytes(8, "little") + text + data, claimed == length
            )
        for what, header in _headers(json.loads(text), len(data)).items():
            encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
            yield HostileFile(
                f"headers/{door} {what}", door, len(encoded).to_bytes(8, "little") + encoded + data, what in _HARMLESS
            )
        yield HostileFile(f"headers/{door} data missing", door, whole[: 8 + length])
        yield HostileFile(f"headers/{door} data twice", door, whole + data)


def _headers(header: dict[str, Any], size: int) -> dict[str, Any]:
    first, second = [name for name, entry in header.items() if len(entry.get("shape", ())) == 4][:2]

    def having(name: str, **fields: Any) -> dict[str, Any]:
        return {**header, name: {**header[name], **fields}}

    begin, end = header[first]["data_offsets"]
    found: dict[str, Any] = {}
    offsets = [[0, 0], [end, begin], [begin, end + 1], [-1, end], [begin, size + 1], [0, 1 << 62], [1 << 62, 1 << 63]]
    offsets += [[begin], [begin, end, end], ["0", "1"], [0.5, 1.5], [None, None], [True, False], {}, "0,1", None]
    for number, wrong in enumerate(offsets):
        found[f"offsets {number}"] = having(first, data_offsets=wrong)
    shapes = [[], [1 << 62], [1 << 31, 1 << 31], [1 << 32, 1 << 32], [0], [-1], [-1, -4], [1.5], ["3"], None, {}]
    shapes += [[1] * 10_000, [1 << 64], [0, 1 << 62], [[1]], "3"]
    for number, shape in enumerate(shapes):
        found[f"shape {number}"] = having(first, shape=shape)
        found[f"shape {number} of all"] = {n: {**e, "shape": shape} if n[:2] != "__" else e for n, e in header.items()}
    for kind in ("F128", "", "O", "object", None, 4, [], "U8", "F64", "BOOL", "F8_E4M3", "I64"):
        found[f"type {kind!r}"] = having(first, dtype=kind)
    found["two in one place"] = having(first, data_offsets=header[second]["data_offsets"])
    found["a gap"] = {name: entry for name, entry in header.items() if name != first}
    found["more fields"] = having(first, command="os.system")
    found["fewer fields"] = {**header, first: {"dtype": "F32"}}
    found["a list"] = [1, 2, 3]
    found["a number"] = b'{"a": ' + b"9" * 100_000 + b"}"
    found["nothing"] = {}
    found["deep"] = ('{"a": ' + _DEEP + "}").encode()
    found["deep metadata"] = ('{"__metadata__": {"a": ' + _DEEP + "}}").encode()
    found["metadata of numbers"] = {**header, "__metadata__": {"a": 1}}
    found["a name twice"] = json.dumps(header)[:-1].encode() + b"," + json.dumps({first: header[first]})[1:].encode()
    found["not UTF-8"] = b'{"\xff\xfe": 1}'
    found["infinite"] = b'{"a": Infinity}'
    found["a surrogate"] = {**header, "\ud800": header[first]}
    found["a very long name"] = {**header, "n" * 1_000_000: header[first]}
    found["many"] = {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [size, size]} for n in range(20_000)}
    found["a path for a name"] = {**header, "../../modelpress-canary": header[first]}
    found["cut"] = json.dumps(header).encode()[:-5]
    return found
