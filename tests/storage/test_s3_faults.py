"""A bucket behind a network that fails: a proxy before a real S3 server cuts, mangles and refuses."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from storage.s3 import S3Store
from storage.store import Corrupt, StoreUnavailable
from tests.support.s3_server import S3Server
from tests.support.scripted_server import Received, Reply, ScriptedServer, scripted_server
from tests.support.stores import content_of, put

CONTENT = content_of(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Fault = Callable[[Received, Callable[[Received], Reply]], Reply]


class Network:
    """Between the store and its server: each of `faults` spoils one request for our object, in turn."""

    def __init__(self, server: S3Server) -> None:
        self._client = httpx.Client(base_url=server.endpoint)
        self.method = "GET"
        self.faults: list[Fault] = []

    def __call__(self, request: Received) -> Reply:
        if request.method == self.method and "objects" in request.path and self.faults:
            return self.faults.pop(0)(request, self.forward)
        return self.forward(request)

    def forward(self, request: Received) -> Reply:
        """The server's own answer."""
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        answer = self._client.request(request.method, request.path, headers=headers, content=request.body)
        passed = {name: value for name, value in answer.headers.items() if name not in ("connection", "server", "date")}
        # Of a HEAD, the length of what would be sent.
        passed["Content-Length"] = passed.pop("content-length", "0")
        return Reply(answer.status_code, answer.content, passed)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def network(s3_server: S3Server) -> Iterator[Network]:
    network = Network(s3_server)
    yield network
    network.close()


@pytest.fixture
def proxy(network: Network) -> Iterator[ScriptedServer]:
    with scripted_server(network) as server:
        yield server


@pytest.fixture
def store(proxy: ScriptedServer, s3_server: S3Server, tmp_path: Path) -> S3Store:
    bucket = s3_server.make_bucket(f"bucket-{uuid.uuid4().hex}")
    return S3Store(bucket, "", spool_folder=tmp_path / "spool", endpoint=proxy.url, credentials=s3_server.credentials)


def mangled(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    """An answer with one byte of the body changed."""
    reply = forward(request)
    return Reply(reply.status, bytes([reply.body[0] ^ 1]) + reply.body[1:], reply.headers)


def shortened(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    """An answer that is shorter, and says so."""
    reply = forward(request)
    return Reply(reply.status, reply.body[:-1], {**reply.headers, "Content-Length": str(len(reply.body) - 1)})


def broken_off(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    """An answer whose connection ends in the middle."""
    reply = forward(request)
    return Reply(reply.status, reply.body, reply.headers, cut_after=len(reply.body) // 2)


def refused(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    return Reply(500)


def kept_short(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    """The server gets one byte less, and takes it."""
    return forward(Received(request.method, request.path, request.headers, request.body[:-1]))


def not_kept(request: Received, forward: Callable[[Received], Reply]) -> Reply:
    """Taken, and lost."""
    return Reply(200, headers={"etag": '"x"'})


@pytest.mark.parametrize("fault", [mangled, shortened, broken_off, refused])
def test_a_read_that_went_wrong_once_is_repeated(
    store: S3Store, network: Network, tmp_path: Path, fault: Fault
) -> None:
    put(store, CONTENT)
    network.faults = [fault]
    store.fetch(SHA256, tmp_path / "laid")
    assert network.faults == []
    assert (tmp_path / "laid").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [mangled, shortened])
def test_a_read_that_goes_wrong_again_is_damage(store: S3Store, network: Network, tmp_path: Path, fault: Fault) -> None:
    put(store, CONTENT)
    network.faults = [fault] * 3
    with pytest.raises(Corrupt, match=SHA256):
        store.fetch(SHA256, tmp_path / "laid")
    assert network.faults == [fault]
    assert not (tmp_path / "laid").exists()


@pytest.mark.parametrize("fault", [kept_short, not_kept, refused])
def test_what_was_not_kept_whole_is_sent_again(store: S3Store, network: Network, fault: Fault) -> None:
    network.method, network.faults = "PUT", [fault]
    assert put(store, CONTENT) == SHA256
    assert network.faults == []
    assert b"".join(store.read(SHA256)) == CONTENT


@pytest.mark.parametrize("fault", [kept_short, not_kept])
def test_what_is_never_kept_whole_is_not_said_to_be_stored(store: S3Store, network: Network, fault: Fault) -> None:
    network.method, network.faults = "PUT", [fault] * 3
    with pytest.raises(StoreUnavailable, match="did not keep all 100000 bytes"):
        put(store, CONTENT)
    assert network.faults == [fault]
    network.faults = []
    assert put(store, CONTENT) == SHA256
    assert b"".join(store.read(SHA256)) == CONTENT


def test_every_part_is_sent_with_its_hash(store: S3Store, proxy: ScriptedServer) -> None:
    """Which a service has to compare, as it is signed: what is mangled on the way is refused there."""
    content = content_of(20_000_000)
    put(store, content)
    parts = [request for request in proxy.requests if request.method == "PUT" and "partNumber" in request.path]
    assert len(parts) == 3
    assert sum(len(part.body) for part in parts) == len(content)
    for part in parts:
        headers = {name.lower(): value for name, value in part.headers.items()}
        assert headers["x-amz-content-sha256"] == hashlib.sha256(part.body).hexdigest()
        assert "x-amz-content-sha256" in headers["authorization"]
