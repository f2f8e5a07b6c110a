"""The data set formats there are, and how a file's format is told: by its content, never by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from modelpress.engine.data.archive import is_tar
from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.labelled import DatasetContent
from modelpress.engine.data.layouts import read_tar, read_zip
from modelpress.engine.data.npz import read_npy, read_npz
from modelpress.engine.data.parquet import read_parquet
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.inspection import DatasetFormat

READERS: dict[DatasetFormat, Callable[[Path, Fit | None], DatasetContent]] = {
    "zip": read_zip,
    "tar": read_tar,
    "npz": read_npz,
    "npy": read_npy,
    "parquet": read_parquet,
}

_PACK = "pack class folders into a zip or tar, or save arrays with `numpy.savez(file, images=..., labels=...)`"


def read_file(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read a data set's file, its images brought to what `fit` says. Raises InvalidDataset."""
    return READERS[dataset_format(path)](path, fit)


def dataset_format(path: Path) -> DatasetFormat:
    """Tell the format of a data set's file. Raises InvalidDataset when it is none that can be read."""
    with path.open("rb") as file:
        start = file.read(6)
    if not start:
        raise InvalidDataset(f"the file is empty; {_PACK}")
    if start == b"\x93NUMPY":
        return "npy"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise InvalidDataset("the zip has no directory at its end, so it was cut off; upload it again")
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except DAMAGED as error:
            raise InvalidDataset(f"the zip is damaged ({error}); make it again and upload it again") from error
        return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
    if is_tar(path):
        return "tar"
    raise InvalidDataset(f"the file is neither a zip, a tar, an npz, an npy nor a Parquet table; {_PACK}")
