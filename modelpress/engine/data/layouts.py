"""How the files of an archive make up a data set, told from their names alone."""

from __future__ import annotations

from pathlib import Path

from modelpress.engine.data import cifar
from modelpress.engine.data.archive import Archive, open_tar, open_zip
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.image_folders import read_image_folders
from modelpress.engine.data.labelled import DatasetContent
from modelpress.engine.data.parquet import find_tables, read_tables
from modelpress.engine.data.webdataset import find_samples, read_webdataset


def read_zip(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read a zip. Raises InvalidDataset."""
    with open_zip(path) as archive:
        return read_archive(archive, fit)


def read_tar(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read a tar, compressed or not. Raises InvalidDataset."""
    with open_tar(path) as archive:
        return read_archive(archive, fit)


def read_archive(archive: Archive, fit: Fit | None = None) -> DatasetContent:
    """Read an archive by the layout that its names are of. Raises InvalidDataset."""
    if (files := cifar.find_python(archive.entries)) is not None:
        return cifar.read_python(archive, files, fit)
    if (files := cifar.find_binary(archive.entries)) is not None:
        return cifar.read_binary(archive, files, fit)
    if (places := find_tables(archive.entries)) is not None:
        return read_tables(archive, places, fit)
    if (samples := find_samples(archive.entries)) is not None:
        return read_webdataset(archive, samples, fit)
    return read_image_folders(archive, fit)
