"""Result files of a work folder: there whole or not at all, whenever the process ends."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel


def write_result(result: BaseModel, path: Path) -> None:
    """Write `result` as JSON to `path` by a file beside it that is renamed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(result.model_dump_json(indent=2), encoding="utf-8")
    partial.replace(path)
