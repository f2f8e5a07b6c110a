"""Signature of a request to an S3-compatible service, version 4, for requests without a body.

Source: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)", Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

_OF_NOTHING = hashlib.sha256(b"").hexdigest()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """The query as it is signed, and so as it has to be sent."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))


def signed_headers(
    method: str,
    host: str,
    path: str,
    parameters: Mapping[str, str],
    *,
    access_key_id: str,
    secret_access_key: str,
    region: str,
    moment: datetime,
) -> dict[str, str]:
    """The headers that make a request ours. `path` is quoted already; `host` has the port where it is not the usual."""
    stamp = moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _OF_NOTHING, "x-amz-date": stamp}
    names = ";".join(headers)
    request = "\n".join(
        [
            method,
            path,
            canonical_query(parameters),
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            names,
            _OF_NOTHING,
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
    return {**headers, "authorization": authorization}
