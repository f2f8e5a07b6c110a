"""Addresses of stores, and a bucket that cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.local import LocalStore
from storage.open_store import open_store
from storage.s3 import S3Credentials
from storage.store import StoreUnavailable
from tests.support.free_port import free_port
from tests.support.s3_server import S3Server


def test_a_folder_with_a_space(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/my%20store")
    assert isinstance(store, LocalStore)
    store.check()
    assert (tmp_path / "my store" / "objects").is_dir()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "file://, s3://"),
        ("/var/lib/modelpress", "file://, s3://"),
        ("ftp://host/folder", "file://, s3://"),
        ("file://relative/folder", "three slashes"),
        ("file:///", "three slashes"),
        ("s3://", "bucket is missing"),
        ("s3://bucket?endpont=http://localhost", "unknown option endpont"),
    ],
)
def test_addresses_that_are_none(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_store(url)


def test_a_missing_bucket_is_said(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_store(
        f"s3://never-made?endpoint={s3_server.endpoint}", credentials=s3_server.credentials, spool_folder=tmp_path
    )
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        store.check()
    with store.open_writer() as writer, pytest.raises(StoreUnavailable):
        writer.commit()


def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    credentials = S3Credentials("who", "very-secret")
    store = open_store(
        f"s3://bucket?endpoint=http://127.0.0.1:{free_port()}", credentials=credentials, spool_folder=tmp_path
    )
    with pytest.raises(StoreUnavailable, match="bucket") as raised:
        store.check()
    assert "very-secret" not in f"{raised.value} {raised.value.__cause__} {credentials}"
