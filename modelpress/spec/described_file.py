"""How a file that describes its own network is told from one of weights alone."""

from __future__ import annotations

from collections.abc import Iterable

COMPACT_MAGIC = b"\x89MPZ\r\n\x1a\n"
"""What a compact container begins with."""

METADATA_KEY = "modelpress"
"""Under which key the metadata of a safetensors file have the `NetworkDescription`, as JSON."""


def is_onnx(head: bytes) -> bool:
    """Whether a file that begins so is an ONNX model.

    ModelProto begins with field 1, ir_version, a small number; then comes a field of text or of messages.
    """
    return len(head) > 3 and head[0] == 0x08 and 0 < head[1] < 32 and head[2] in (0x12, 0x1A, 0x22, 0x32, 0x3A, 0x42)


def is_exported(names: Iterable[str]) -> bool:
    """Whether a zip with members of these names is a program that `torch.export.save` wrote: all lie in one folder."""
    inner = (name.partition("/")[2] for name in names)
    return any(name.startswith("models/") and name.endswith(".json") for name in inner)
