"""Parquet tables with a column of encoded images, as Hugging Face's data sets are published.

image: struct<bytes, path> or binary     the image's file
label: integer or text, or none          names of the numbers stand in the schema's metadata (ClassLabel)

A single file is one part. The files of an archive are parted by their names, or their folders' names:
train-00000-of-00002.parquet, test/0000.parquet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from modelpress.engine.data.archive import Archive, Entry
from modelpress.engine.data.class_labels import check_heldout, number_labels
from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.decode import decode_images
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.folders import PARTS, TRAIN, heldout_part, is_junk
from modelpress.engine.data.labelled import DatasetContent, LabelledImages
from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_IMAGE_FILE_BYTES, MAX_IMAGES
from modelpress.spec.failure import InvalidDataset

_IMAGE_NAMES = ("image", "img", "images", "jpg", "png", "picture", "photo")
_LABEL_NAMES = ("label", "labels", "fine_label", "cls", "class")
# A page of a dictionary can stand for any number of equal cells, so few rows are unpacked at once.
_ROWS_AT_ONCE, _LABELS_AT_ONCE = 16, 256
_MOST_LETTERS = 1000
_MOST_THRIFT_BYTES = 2**24  # of a name or a statistic in the file's own description
_MOST_THRIFT_ITEMS = 2**20


@dataclass(frozen=True)
class _Table:
    """One file, open."""

    name: str
    file: pq.ParquetFile
    image: str  # names of the columns
    label: str | None

    @property
    def rows(self) -> int:
        return int(self.file.metadata.num_rows)


def read_parquet(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read a single file, its images brought to what `fit` says. Raises InvalidDataset."""
    table = _open(path, "the table")
    return _read([lambda: table], [table.rows], [False], 0, fit)


def find_tables(entries: Sequence[Entry]) -> list[int] | None:
    """Places of an archive's Parquet files; None where there are none."""
    return [place for place, entry in enumerate(entries) if _is_table(entry)] or None


def _is_table(entry: Entry) -> bool:
    # Programs that write a table in parts name a folder so.
    return entry.name.lower().endswith(".parquet") and not entry.folder and not is_junk(PurePosixPath(entry.name).parts)


def read_tables(archive: Archive, places: list[int], fit: Fit | None = None) -> DatasetContent:
    """Read the Parquet files of an archive; the part of each is told from its name. Raises InvalidDataset."""
    parts = [_part(archive.entries[place].name) for place in places]
    heldout_names = heldout_part({part: archive.entries[place].name for place, part in zip(places, parts, strict=True)})
    used, heldout, rows, unused = [], [], [], 0

    def open_at(place: int) -> _Table:
        return _open(pa.BufferReader(archive.read(place)), archive.entries[place].name)

    for place, part in zip(places, parts, strict=True):
        count = open_at(place).rows
        if heldout_names and part not in (*TRAIN, *heldout_names):
            unused += count
            continue
        used.append(lambda place=place: open_at(place))
        heldout.append(bool(heldout_names) and part in heldout_names)
        rows.append(count)
    return _read(used, rows, heldout, unused, fit)


def _part(name: str) -> str:
    """Name of the part that a file is of: the word before the first dash, or its folder."""
    path = PurePosixPath(name.lower())
    word = path.stem.partition("-")[0]
    return word if word in PARTS else path.parent.name.removesuffix(".parquet")


def _read(
    tables: Sequence[Callable[[], _Table]], rows: list[int], heldout: list[bool], unused: int, fit: Fit | None
) -> DatasetContent:
    """All tables, one after the other; each is opened anew when it is its turn, so that one is held at a time."""
    if sum(rows) > MAX_IMAGES:
        raise InvalidDataset(f"there are {sum(rows)} rows, the limit is {MAX_IMAGES} images; use fewer")
    if not sum(rows):
        raise InvalidDataset("there are no rows in the table; save one for each image")
    labels: list[int | str | None] = []
    names: list[str] = []
    known: tuple[str, ...] | None = None
    for opened, count in zip(tables, rows, strict=True):
        table = opened()
        found = _labels(table)
        if len(found) != count:
            raise InvalidDataset(f"{table.name} is damaged: it has {len(found)} rows and says {count}; save it again")
        labels += found
        names += [f"row {row} of {table.name}" for row in range(count)]
        known = known or _class_names(table)
    classes, numbers = number_labels(labels, names, known)
    is_heldout = np.repeat(heldout, rows)
    check_heldout(numbers, is_heldout, names)
    cells = (cell for opened in tables for cell in _cells(opened()))

    def read(place: int) -> bytes:  # called for 0, 1, 2 and so on
        return _file_of(next(cells, None), names[place])

    try:
        decoded = decode_images(names, list(range(len(names))), read, fit)
    except DAMAGED as error:
        raise InvalidDataset(f"the table is damaged ({error}); save it again and upload it again") from error
    return DatasetContent.parted(
        "table", classes, LabelledImages(decoded.pixels, numbers), is_heldout, unused=unused, sizes=decoded.sizes
    )


def _open(source: Path | pa.BufferReader, name: str) -> _Table:
    try:
        file = pq.ParquetFile(
            source,
            pre_buffer=False,
            thrift_string_size_limit=_MOST_THRIFT_BYTES,
            thrift_container_size_limit=_MOST_THRIFT_ITEMS,
            arrow_extensions_enabled=False,
        )
        schema = file.schema_arrow
        if file.metadata.num_rows < 0:
            raise ValueError("a negative number of rows")
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    except DAMAGED as error:
        raise InvalidDataset(f"{name} is damaged ({error}); save it again and upload it again") from error
    if size > MAX_DECODED_BYTES:
        raise InvalidDataset(f"{name} unpacks to more than {MAX_DECODED_BYTES >> 30} GiB; use fewer images")
    columns = {field.name: field.type for field in schema}
    image = next((column for column in _IMAGE_NAMES if _holds_files(columns.get(column))), None)
    if image is None:
        image = next((column for column, kind in columns.items() if _holds_files(kind)), None)
    if image is None:
        raise InvalidDataset(
            f"{name} has no column of images, it has {', '.join(list(columns)[:10])}; a column `image` holds each "
            "image's file, as binary or as a struct of `bytes` and `path`"
        )
    label = next((column for column in _LABEL_NAMES if _holds_labels(columns.get(column))), None)
    return _Table(name, file, image, label)


def _holds_files(kind: Any) -> bool:
    if kind is None:
        return False
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_files(kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_labels(kind: Any) -> bool:
    return kind is not None and bool(
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )


def _labels(table: _Table) -> list[int | str | None]:
    if table.label is None:
        return [None] * table.rows
    found: list[int | str | None] = []
    try:
        for batch in table.file.iter_batches(_LABELS_AT_ONCE, columns=[table.label], use_threads=False):
            found += batch.column(0).to_pylist()
            if any(isinstance(label, str) and len(label) > _MOST_LETTERS for label in found[-len(batch) :]):
                raise InvalidDataset(
                    f"{table.name} has a label of more than {_MOST_LETTERS} letters; use shorter names"
                )
    except DAMAGED as error:
        raise InvalidDataset(f"{table.name} is damaged ({error}); save it again and upload it again") from error
    return found


def _class_names(table: _Table) -> tuple[str, ...] | None:
    """Names of the labels that Hugging Face's `datasets` writes into the schema; None where it did not."""
    metadata = table.file.schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][table.label]["names"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _cells(table: _Table) -> Iterator[Any]:
    for batch in table.file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[table.image], use_threads=False):
        yield from batch.column(0)


def _file_of(cell: Any, name: str) -> bytes:
    """The bytes of an image's file, of a cell that is binary or a struct."""
    if cell is not None and pa.types.is_struct(cell.type):
        cell = cell["bytes"] if cell.is_valid else None
    if cell is None or not cell.is_valid:
        raise InvalidDataset(f"{name} has no image in it; save the image's file in the table, not its path alone")
    buffer = cell.as_buffer()
    if buffer.size > MAX_IMAGE_FILE_BYTES:
        raise InvalidDataset(f"{name} has {buffer.size} bytes, the limit is {MAX_IMAGE_FILE_BYTES}")
    return bytes(buffer)
