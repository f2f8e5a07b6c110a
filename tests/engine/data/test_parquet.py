"""Tables as Hugging Face's `datasets` writes them, and what can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from modelpress.engine.data import parquet
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.data.registry import read_file
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import Stretch
from tests.support.archives import picture, pixels_of, write_tar, write_zip

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def save(
    path: Path, labels: list[Any] | None, names: list[str] | None = None, *, seed: int = 0, **options: Any
) -> Path:
    """A table of pictures, one more each row, with the metadata of `datasets` where there are names."""
    count = 4 if labels is None else len(labels)
    cells = [{"bytes": picture(seed + row), "path": f"{row}.png"} for row in range(count)]
    columns: dict[str, Any] = {"image": pa.array(cells, CELL)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    table = pa.table(columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"row_group_size": 3, "compression": "zstd"}, {"compression": "gzip"}])
def test_a_table_of_hugging_face(tmp_path: Path, options: dict[str, Any]):
    labels = [row % 3 for row in range(40)]
    path = save(tmp_path / "file", labels, ["cat", "dog", "fox"], **options)
    content = read_file(path)
    assert (content.layout, content.classes, content.heldout) == ("table", ("cat", "dog", "fox"), None)
    assert content.train.labels.tolist() == labels
    for row in (0, 17, 39):
        np.testing.assert_array_equal(content.train.images[row], pixels_of(picture(row)))
    found = inspect_dataset(path)
    assert (found.format, found.train_examples, found.image_shape) == ("parquet", 40, (3, 5, 6))


def test_labels_as_text_and_as_bare_numbers(tmp_path: Path):
    content = read_file(save(tmp_path / "file", ["dog", "cat", None, "dog"]))
    assert (content.classes, content.train.labels.tolist()) == (("cat", "dog"), [1, 0, -1, 1])
    content = read_file(save(tmp_path / "file", [2, 0, -1, 1]))
    assert (content.classes, content.train.labels.tolist()) == (("0", "1", "2"), [2, 0, -1, 1])


def test_without_a_column_of_labels_no_image_has_one(tmp_path: Path):
    content = read_file(save(tmp_path / "file", None))
    assert (content.classes, content.train.labels.tolist()) == ((), [-1] * 4)


def test_a_column_of_binary_by_any_name(tmp_path: Path):
    table = pa.table({"id": [1, 2], "content": [picture(1), picture(2)], "fine_label": [0, 1]})
    pq.write_table(table, tmp_path / "file")
    content = read_file(tmp_path / "file", Fit((1, 3, 3), Stretch()))
    assert content.train.images.shape == (2, 3, 3, 1)
    assert content.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
        ("train-a.parquet", "train-b.parquet", "validation.parquet"),
        ("set/train.parquet/part-0.parquet", "set/train.parquet/part-1.parquet", "set/test.parquet/part-0.parquet"),
    ],
)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_the_files_of_a_data_set_in_an_archive(tmp_path: Path, names: tuple[str, ...], write: Any):
    files = {"README.md": b"# pets", "__MACOSX/data/._train-0000.parquet": b"left behind"}
    for index, name in enumerate(names):
        files[name] = save(tmp_path / "table", [0, 1, 1], ["cat", "dog"], seed=10 * index).read_bytes()
    content = read_file(write(tmp_path / "file", files))
    assert content.classes == ("cat", "dog")
    assert content.train.labels.tolist() == [0, 1, 1, 0, 1, 1]
    np.testing.assert_array_equal(content.train.images[4], pixels_of(picture(11)))
    assert content.heldout is not None
    np.testing.assert_array_equal(content.heldout.images[2], pixels_of(picture(22)))


def test_what_is_beside_the_parts_is_not_trained_on_with_all_of_them(tmp_path: Path):
    table = save(tmp_path / "table", [0, 1]).read_bytes()
    files = {f"data/{part}-0.parquet": table for part in ("train", "extra", "test")}
    with pytest.raises(InvalidDataset, match=r"data/extra-0.parquet lies beside the parts 'test', 'train'"):
        inspect_dataset(write_zip(tmp_path / "file", files))


def test_a_validation_part_beside_a_test_part_is_used_for_nothing(tmp_path: Path):
    table = save(tmp_path / "table", [0, 1]).read_bytes()
    files = {f"{part}-0.parquet": table for part in ("train", "validation", "test")}
    found = inspect_dataset(write_zip(tmp_path / "file", files))
    assert (found.train_examples, found.heldout_examples, found.unused_examples) == (2, 2, 2)


def _table(**columns: Any) -> pa.Table:
    return pa.table({"image": pa.array([{"bytes": picture(row), "path": None} for row in range(2)], CELL), **columns})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"label": [0, 1]}), "has no column of images, it has label; a column `image` holds"),
        (pa.table({"image": ["a.png", "b.png"], "label": [0, 1]}), "has no column of images"),
        (
            pa.table({"image": pa.array([{"bytes": None, "path": "a.png"}] * 2, CELL), "label": [0, 1]}),
            "row 0 of the table has no image in it",
        ),
        (pa.table({"image": [picture(), None], "label": [0, 1]}), "row 1 of the table has no image in it"),
        (pa.table({"image": [picture(), b"GIF"], "label": [0, 1]}), "row 1 of the table cannot be read"),
        (_table(label=[0, -2]), "row 1 of the table has the label -2"),
        (
            _table(
                label=[
                    1,
                    1,
                ][:2]
            ).slice(0, 0),
            "there are no rows",
        ),
        (_table(label=[0, 0]), "one class only"),
        (_table(label=["a", "b" * 1001]), "a label of more than 1000 letters"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, table: pa.Table, message: str):
    pq.write_table(table, tmp_path / "file")
    with pytest.raises(InvalidDataset, match=message):
        read_file(tmp_path / "file")


def test_names_that_are_too_few_for_the_labels(tmp_path: Path):
    with pytest.raises(InvalidDataset, match="row 2 of the table has the label 2, which is none of the 2 classes"):
        read_file(save(tmp_path / "file", [0, 1, 2], ["cat", "dog"]))


def test_too_many_rows_and_too_large_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "file", [0, 1])
    monkeypatch.setattr(parquet, "MAX_IMAGE_FILE_BYTES", 100)
    with pytest.raises(InvalidDataset, match=r"row 0 of the table has .* bytes, the limit is 100"):
        read_file(path)
    monkeypatch.setattr(parquet, "MAX_IMAGES", 1)
    with pytest.raises(InvalidDataset, match="there are 2 rows, the limit is 1 images"):
        read_file(path)
    monkeypatch.setattr(parquet, "MAX_DECODED_BYTES", 100)
    with pytest.raises(InvalidDataset, match="unpacks to more than"):
        read_file(path)


def test_nothing_but_typed_errors_from_damaged_files(tmp_path: Path):
    whole = save(tmp_path / "file", [0, 1, 1], ["cat", "dog"]).read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        if draw.random() < 0.3:
            del damaged[int(draw.integers(4, len(whole) - 8)) : -8]
        else:
            for place in draw.integers(4, len(whole) - 8, 8):
                damaged[place] = draw.integers(256)
        (tmp_path / "file").write_bytes(damaged)
        try:
            read_file(tmp_path / "file")
        except InvalidDataset:
            refused += 1
    assert refused > 150
