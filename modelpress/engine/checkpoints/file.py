"""A checkpoint as a file: safetensors, with the facts as JSON in its metadata. Nothing in it is ever executed.

Whoever reads one may have been given another's: it is a file like any that a stranger uploads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint

_METADATA_KEY = "modelpress.checkpoint"


def write_file(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot, which is there whole or not at all. Raises OSError.

    It is not synced to the disk: it outlives this process, and what shall outlive the machine is in the store.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(_apart(snapshot.tensors), partial, metadata={_METADATA_KEY: json.dumps(snapshot.facts)})
    except SafetensorError as error:  # a full disk shows itself so
        raise OSError(f"{path.name} cannot be written: {error}") from error
    partial.replace(path)


def read_file(path: Path) -> Snapshot:
    """The snapshot of a file that `write_file` made, on the CPU. Raises UnusableCheckpoint.

    Its tensors are views of the file: who keeps one, or writes to it, copies it.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
            if text is None:
                raise UnusableCheckpoint("it is no checkpoint")
            return Snapshot({name: file.get_tensor(name) for name in file.keys()}, json.loads(text))  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UnusableCheckpoint(f"it cannot be read ({str(error)[:200]})") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As they are written: on the CPU, contiguous; what shares memory, as tied weights do, once for each name."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        written = tensor.detach().cpu().contiguous()
        place = written.untyped_storage().data_ptr()
        apart[name] = written.clone() if place in seen else written
        seen.add(place)
    return apart
