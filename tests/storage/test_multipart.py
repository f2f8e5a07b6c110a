"""Uploads in parts that a killed process has left in a bucket."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.multipart import Multipart
from storage.s3 import S3Store
from storage.store import StoreUnavailable
from tests.support.s3_server import S3Server
from tests.support.scripted_server import Received, Reply, scripted_server
from tests.support.stores import put

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Bucket>bucket</Bucket>{uploads}<IsTruncated>{is_truncated}</IsTruncated>
  <NextKeyMarker>p/objects/b</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>
</ListMultipartUploadsResult>"""
UPLOAD = "<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId><Initiated>{begun_at}</Initiated></Upload>"
KEY = {"access_key_id": "a", "secret_access_key": "b", "region": "garage"}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_sweep_ends_what_was_left_in_the_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    """Beside what is kept, and what another service has in the same bucket."""
    bucket = s3_server.make_bucket(f"bucket-{uuid.uuid4().hex}")
    store = S3Store(
        bucket, "our part", spool_folder=tmp_path, endpoint=s3_server.endpoint, credentials=s3_server.credentials
    )
    kept = put(store, b"abc")
    with s3_server.client() as client:
        for key in (f"our part/objects/ab/{'ab' * 32}", "another's/objects/x"):
            upload = client.create_multipart_upload(Bucket=bucket, Key=key)
            client.upload_part(Bucket=bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 100)
        assert store.sweep(older_than_seconds=3600) == 1
        left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["another's/objects/x"]
    assert store.exists(kept)


def test_young_uploads_are_left_and_every_page_is_read() -> None:
    pages = [
        [("p/objects/a", "1", NOON - timedelta(hours=25)), ("p/objects/b", "2", NOON - timedelta(hours=23))],
        [("p/objects/b", "3", NOON - timedelta(days=9)), ("p/objects/c", "4", NOON + timedelta(hours=1))],
    ]

    def answer(request: Received) -> Reply:
        if request.method == "DELETE":
            return Reply(204 if request.path.endswith("=1") else 404)  # the second has ended by itself
        number = int("key-marker" in request.path)
        uploads = "".join(
            UPLOAD.format(key=key, upload_id=upload_id, begun_at=begun_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
            for key, upload_id, begun_at in pages[number]
        )
        return Reply(200, PAGE.format(uploads=uploads, is_truncated="false" if number else "true").encode())

    with scripted_server(answer) as server:
        assert Multipart(server.url, "bucket", **KEY).abort("p/objects/", NOON - timedelta(days=1)) == 2
        assert [(request.method, request.path) for request in server.requests] == [
            ("GET", "/bucket?prefix=p%2Fobjects%2F&uploads="),
            ("GET", "/bucket?key-marker=p%2Fobjects%2Fb&prefix=p%2Fobjects%2F&upload-id-marker=2&uploads="),
            ("DELETE", "/bucket/p/objects/a?uploadId=1"),
            ("DELETE", "/bucket/p/objects/b?uploadId=3"),
        ]


def test_a_service_that_lists_none_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with scripted_server(lambda _: Reply(501)) as server:
        assert Multipart(server.url, "bucket", **KEY).abort("objects/", NOON) == 0
    assert "stay in the bucket" in caplog.text


def test_a_service_that_is_away_is_said() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        Multipart("http://127.0.0.1:1", "bucket", **KEY).abort("objects/", NOON)
