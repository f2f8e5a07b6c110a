"""Uploads in parts that broke off inside a bucket: nobody sees their bytes, and they take room for ever.

obstore ends an upload that fails, but not that of a process that was killed, and does not list them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import httpx

from storage.signature import canonical_query, signed_headers
from storage.store import StoreUnavailable

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Unfinished:
    """An upload in parts that is under way, or was broken off."""

    key: str
    upload_id: str
    begun_at: datetime


class Multipart:
    """The uploads in parts to one bucket, addressed by path."""

    def __init__(self, endpoint: str, bucket: str, *, access_key_id: str, secret_access_key: str, region: str) -> None:
        self._endpoint = urlsplit(endpoint.rstrip("/"))
        self._bucket = bucket
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._region = region

    def abort(self, prefix: str, begun_before: datetime) -> int:
        """End the uploads to keys that begin so and were begun before then; gives how many. Raises StoreUnavailable.

        A service that does not let them be listed or ended is left alone, with a warning in the log.
        """
        ended = 0
        try:
            with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
                for upload in list(self._list(client, prefix)):
                    if upload.key.startswith(prefix) and upload.begun_at < begun_before:
                        self._send(client, "DELETE", upload.key, {"uploadId": upload.upload_id})
                        ended += 1
        except httpx.HTTPStatusError as error:
            log.warning("unfinished uploads in parts stay in the bucket %s: %s", self._bucket, error)
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"{self._endpoint.geturl()} cannot be used: {error}") from error
        return ended

    def _list(self, client: httpx.Client, prefix: str) -> Iterator[Unfinished]:
        page = {"uploads": "", "prefix": prefix}
        while True:
            # Of our own store, and expat bounds what entities can grow to.
            found = ElementTree.fromstring(self._send(client, "GET", "", page).content)  # noqa: S314
            for upload in found.iterfind("{*}Upload"):
                begun_at = datetime.fromisoformat(_text(upload, "Initiated"))
                yield Unfinished(_text(upload, "Key"), _text(upload, "UploadId"), begun_at)
            if _text(found, "IsTruncated").lower() != "true":
                return
            page["key-marker"] = _text(found, "NextKeyMarker")
            page["upload-id-marker"] = _text(found, "NextUploadIdMarker")

    def _send(self, client: httpx.Client, method: str, key: str, parameters: Mapping[str, str]) -> httpx.Response:
        path = f"{self._endpoint.path}/{quote(f'{self._bucket}/{key}' if key else self._bucket, safe='/-_.~')}"
        headers = signed_headers(
            method,
            self._endpoint.netloc,
            path,
            parameters,
            access_key_id=self._access_key_id,
            secret_access_key=self._secret_access_key,
            region=self._region,
            moment=datetime.now(UTC),
        )
        url = f"{self._endpoint.scheme}://{self._endpoint.netloc}{path}?{canonical_query(parameters)}"
        response = client.request(method, url, headers=headers)
        if not (method == "DELETE" and response.status_code == 404):  # it has ended by itself meanwhile
            response.raise_for_status()
        return response


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
