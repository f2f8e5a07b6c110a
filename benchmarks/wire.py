"""The plainest HTTP client there is: a socket. A library's own cost would hide the server's."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path

_PIECE = 1 << 20


def send_file(port: int, target: str, path: Path, headers: Mapping[str, str]) -> float:
    """POST a file; gives the seconds until the answer, which must be 201."""
    lines = _head("POST", target, {**headers, "Content-Length": str(path.stat().st_size)})
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as file:
        connection.sendall(lines)
        connection.sendfile(file)
        answer = connection.recv(_PIECE)
        seconds = time.perf_counter() - begin
    _require(answer, 201)
    return seconds


def receive(port: int, target: str, size: int, headers: Mapping[str, str]) -> float:
    """GET a body of `size` bytes and throw it away; gives the seconds until its last byte."""
    buffer = bytearray(_PIECE)
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_head("GET", target, headers))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                raise RuntimeError(f"{target}: the connection closed before the answer: {head[:200]!r}")
            head += piece
        got = len(head) - head.index(b"\r\n\r\n") - 4
        while got < size and (count := connection.recv_into(buffer)):
            got += count
        seconds = time.perf_counter() - begin
    _require(head, 200)
    if got != size:
        raise RuntimeError(f"{target}: {got} bytes came, {size} were due")
    return seconds


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _require(answer: bytes, status: int) -> None:
    if not answer.startswith(f"HTTP/1.1 {status} ".encode()):
        raise RuntimeError(f"expected {status}, got {answer[:500]!r}")
