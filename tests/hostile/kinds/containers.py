"""Compact containers with a right hash over wrong content, and ONNX graphs that reach for files."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zlib
from collections.abc import Iterator

from onnx import TensorProto, helper

from tests.hostile import good
from tests.hostile.hostile_file import HostileFile

_FIXED = struct.Struct("<8sHI32s")


def files(seed: int) -> Iterator[HostileFile]:
    """Containers for `modelpress.load`, graphs for both doors."""
    yield from _compact(seed)
    yield from _onnx()


def _compact(seed: int) -> Iterator[HostileFile]:
    whole = good.mpz()
    magic, version, length, _ = _FIXED.unpack_from(whole)
    header, tensors = whole[_FIXED.size : _FIXED.size + length], whole[_FIXED.size + length :]
    description = json.loads(zlib.decompress(header))

    def container(head: bytes, rest: bytes = tensors, *, version: int = version, length: int | None = None) -> bytes:
        body = head + rest
        count = len(head) if length is None else length
        return _FIXED.pack(magic, version, count, hashlib.sha256(body).digest()) + body

    for number in (0, 1, 3, 0xFFFF):
        yield HostileFile(f"containers/version {number}", "artifact", container(header, version=number))
    for count in (0, 1, len(header) - 1, len(header) + 1, 0x7FFF_FFFF, 0xFFFF_FFFF):
        yield HostileFile(f"containers/header of {count}", "artifact", container(header, length=count))
    descriptions = {
        "empty": {},
        "a list": [],
        "more fields": {**description, "command": "os.system"},
        "unknown architecture": {**description, "architecture": {"architecture": "os.system", "arguments": {}}},
        "huge": {**description, "architecture": {**description["architecture"], "arguments": {"width": 1e9}}},
        "wide": {**description, "architecture": {**description["architecture"], "arguments": {"width": 1000}}},
        "classes": {
            **description,
            "architecture": {**description["architecture"], "arguments": {"num_classes": 1 << 40}},
        },
        "input": {**description, "input_shape": [3, 1 << 40, 1 << 40]},
        "negative input": {**description, "input_shape": [-3, 32, 32]},
        "edits": {**description, "edits": [{"kind": "os.system"}]},
        "many edits": {**description, "edits": [{}] * 100_000},
    }
    for what, changed in descriptions.items():
        packed = zlib.compress(json.dumps(changed).encode())
        # Nothing is made of the size of images before some are given.
        yield HostileFile(f"containers/{what}", "artifact", container(packed), "input" in what)
    for what, text in {"bomb": bytes(1 << 28), "deep": b"[" * 1_000_000, "not JSON": b"\x80\x02cos\nsystem\n."}.items():
        yield HostileFile(f"containers/header {what}", "artifact", container(zlib.compress(text)))
    yield HostileFile("containers/header not deflated", "artifact", container(b"x" * 100))
    yield HostileFile("containers/no tensors", "artifact", container(header, b""))
    yield HostileFile("containers/tensors twice", "artifact", container(header, tensors + tensors))
    draw = random.Random(seed)  # noqa: S311
    for number in range(60):
        changed = bytearray(tensors)
        for _ in range(draw.choice((1, 1, 4, 64))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        yield HostileFile(f"containers/tensors altered {number}", "artifact", container(header, bytes(changed)), True)
    for number in range(40):
        cut = draw.randrange(len(tensors))
        yield HostileFile(f"containers/tensors cut {number}", "artifact", container(header, tensors[:cut]))


def _onnx() -> Iterator[HostileFile]:
    for number, location in enumerate(
        (
            "/etc/passwd",
            "../../../../etc/passwd",
            "weights.bin",
            "/dev/zero",
            "http://127.0.0.1/x",
            "a\x00b",
            "/proc/self/mem",
        )
    ):
        content = _graph([("location", location), ("offset", "0"), ("length", str(1 << 40))])
        for door in ("model", "dataset", "artifact"):
            yield HostileFile(f"onnx/external data {number} as {door}", door, content)  # type: ignore[arg-type]
    for cut in range(0, len(_graph([])), 20):
        yield HostileFile(f"onnx/cut at {cut}", "model", _graph([])[:cut])


def _graph(external: list[tuple[str, str]]) -> bytes:
    """A sum with a constant, which lies elsewhere where `external` says so."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [1.0])
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in external:
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "weight"], ["y"])], "sum", [given], [made], [weight])
    return bytes(helper.make_model(graph).SerializeToString())
