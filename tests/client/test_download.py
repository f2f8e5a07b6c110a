"""Downloads that break, that lie, and that were done before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpress.client import ConnectionFailed, IntegrityError, connection, download
from modelpress.client.address import Address
from modelpress.client.connection import Connection
from modelpress.client.download import fetch_artifact
from tests.client.resources import make_artifact
from tests.support.scripted_server import Received, Reply, ScriptedServer, scripted_server

CONTENT = bytes(position * position % 251 for position in range(300_000))
NO_DELAYS = (0.0,) * len(connection.RETRY_DELAYS)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_DELAYS", NO_DELAYS)
    monkeypatch.setattr(download, "RETRY_DELAYS", NO_DELAYS)


def _file_server(content: bytes, cuts: Iterator[int | None], tag: str | None = '"v1"') -> Callable[[Received], Reply]:
    """A server of one file that honours Range and If-Range; each GET is cut as `cuts` says."""

    def answer(request: Received) -> Reply:
        headers = {"ETag": tag} if tag is not None else {}
        if request.method == "HEAD":
            return Reply(200, content, headers)
        start = 0
        if "Range" in request.headers and request.headers.get("If-Range") == tag:
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206 if start else 200, content[start:], headers, cut_after=next(cuts))

    return answer


def _fetch(server: ScriptedServer, folder: Path, content: bytes = CONTENT, filename: str = "model.mpz") -> Path:
    with_server = Connection(Address(server.url, "mp_x"), timeout=10)
    try:
        return fetch_artifact(with_server, make_artifact(content, filename), folder)
    finally:
        with_server.close()


def _starts(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("Range") for request in server.requests if request.method == "GET"]


def test_a_broken_download_is_resumed_where_it_ended(tmp_path: Path) -> None:
    with scripted_server(_file_server(CONTENT, iter([100_000, 50_000, None]))) as server:
        path = _fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert _starts(server) == [None, "bytes=100000-", "bytes=150000-"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_earlier_program_left_is_resumed_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    with scripted_server(_file_server(CONTENT, iter([70_000] + [0] * 50))) as server:
        with pytest.raises(ConnectionFailed, match="broke"):
            _fetch(server, tmp_path)
        assert not (tmp_path / "model.mpz").exists()
    with scripted_server(_file_server(CONTENT, iter([None]))) as server:
        path = _fetch(server, tmp_path)
        assert _starts(server) == ["bytes=70000-"]
        server.requests.clear()
        assert _fetch(server, tmp_path) == path
        assert server.requests == []
    assert path.read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    part = tmp_path / f".model.mpz.{make_artifact(CONTENT).sha256[:12]}.part"
    part.write_bytes(b"x" * 1000)

    def answer(request: Received) -> Reply:
        # The tag changes between HEAD and GET, so that If-Range does not hold and the whole file comes.
        return Reply(200, CONTENT, {"ETag": '"old"' if request.method == "HEAD" else '"new"'})

    with scripted_server(answer) as server:
        assert _fetch(server, tmp_path).read_bytes() == CONTENT


def test_without_a_tag_nothing_is_resumed(tmp_path: Path) -> None:
    with scripted_server(_file_server(CONTENT, iter([100_000, None]), tag=None)) as server:
        assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert _starts(server) == [None, None]


def test_other_bytes_than_promised_are_dropped(tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with (
        scripted_server(_file_server(wrong, iter([None]))) as server,
        pytest.raises(IntegrityError, match=r"model\.mpz arrived with SHA-256 .* download it again"),
    ):
        _fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_promised_are_refused(tmp_path: Path) -> None:
    with (
        scripted_server(_file_server(CONTENT + b"more", iter([None]))) as server,
        pytest.raises(IntegrityError, match="longer than the 300000 bytes"),
    ):
        _fetch(server, tmp_path)
    assert not (tmp_path / "model.mpz").exists()


@pytest.mark.parametrize("name", ["../model.mpz", "/etc/passwd", "a/b", "..\\b", "..", ""])
def test_path_traversal(tmp_path: Path, name: str) -> None:
    with (
        scripted_server(_file_server(CONTENT, iter([None]))) as server,
        pytest.raises(IntegrityError, match="not a plain file name"),
    ):
        _fetch(server, tmp_path / "inside", filename=name)
    assert server.requests == []


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with scripted_server(_file_server(b"", iter([None]))) as server:
        assert _fetch(server, tmp_path, b"").read_bytes() == b""
