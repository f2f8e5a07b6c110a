"""Signatures against the examples that Amazon publishes, and against botocore."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from storage.signature import canonical_query, signed_headers

KEY = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


@pytest.mark.parametrize(
    ("parameters", "signature"),
    [
        ({"lifecycle": ""}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ({"prefix": "J", "max-keys": "2"}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_published_examples(parameters: dict[str, str], signature: str) -> None:
    """Amazon S3 API reference, "Signature Calculations for the Authorization Header", examples."""
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    headers = signed_headers(
        "GET", "examplebucket.s3.amazonaws.com", "/", parameters, **KEY, region="us-east-1", moment=moment
    )
    assert headers["authorization"].endswith(f"Signature={signature}")


def test_as_botocore_signs() -> None:
    """Names and values that have to be quoted; at the moment that botocore takes for itself."""
    parameters = {"uploads": "", "prefix": "a b/ü+", "key-marker": "x/y=z&"}
    request = AWSRequest(
        method="DELETE", url=f"http://127.0.0.1:9000/bucket/a%20b/%C3%BC?{canonical_query(parameters)}"
    )
    S3SigV4Auth(Credentials(*KEY.values()), "s3", "garage").add_auth(request)
    moment = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    headers = signed_headers(
        "DELETE", "127.0.0.1:9000", "/bucket/a%20b/%C3%BC", parameters, **KEY, region="garage", moment=moment
    )
    assert headers["authorization"] == request.headers["Authorization"].replace(", ", ",")
