"""How a file that describes its own network is told from one of weights alone."""

from __future__ import annotations

COMPACT_MAGIC = b"\x89MPZ\r\n\x1a\n"
"""What a compact container begins with."""

METADATA_KEY = "modelpress"
"""Under which key the metadata of a safetensors file have the `NetworkDescription`, as JSON."""
