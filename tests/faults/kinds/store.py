"""A store that answers 500 and breaks off in the midst of a body, at any request of API and workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.faults.back_ends import BackEnd
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.proxy import Cut, Link, Proxy
from tests.faults.site import Site
from tests.support.s3_server import run_s3_server

HIT_SECONDS = 20.0

ERROR = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(ERROR), ERROR)
)
VERBS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")

# Of a body that is cut, what comes through at most, bytes.
LONGEST_BEGINNING = 1 << 15


class _BadStore(Fault):
    """Some of the next requests to an S3 store go wrong."""

    holds = "tried again, and the hash checked: every file is whole"
    moments = 40
    few = 0  # a server and a service of their own; tests/storage has the store by itself
    is_apart = True
    back_ends = ("production",)
    in_ci = ("production",)
    pause_seconds = (0.0, 0.5)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._draw = Random(0)
        self._left = 0  # requests that go wrong, from now on
        self._is_hit = threading.Event()

    @contextmanager
    def around(self, back_end: BackEnd, home: Path) -> Iterator[BackEnd]:
        """Start a store, and a proxy before it."""
        with run_s3_server() as server:
            bucket = server.make_bucket("faults")
            host, port = server.endpoint.removeprefix("http://").split(":")
            with Proxy((host, int(port)), request=self.request, answer=self.answer) as proxy:
                keys = {
                    "store_url": f"s3://{bucket}/store?endpoint=http://127.0.0.1:{proxy.port}",
                    "s3_access_key_id": server.credentials.access_key_id,
                    "s3_secret_access_key": server.credentials.secret_access_key,
                }
                yield replace(back_end, settings={**back_end.settings, **keys})

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Have one to three of the requests that come now go wrong, each at a place of its own."""
        at = clock()
        with self._lock:
            self._draw, self._left = Random(draw.random()), draw.randint(1, 3)
            self._is_hit.clear()
        load.submit(draw)
        is_hit = self._is_hit.wait(HIT_SECONDS)
        with self._lock:
            self._left = 0
        return Struck(at) if is_hit else None

    def request(self, link: Link, piece: bytes) -> bytes:
        """See what goes to the store."""
        raise NotImplementedError

    def answer(self, link: Link, piece: bytes) -> bytes:
        """See what the store says: as it is."""
        return piece

    def take(self) -> Random | None:
        """Whether this one goes wrong: then the chance that says how."""
        with self._lock:
            if not self._left:
                return None
            self._left -= 1
            if not self._left:
                self._is_hit.set()
            return self._draw


class StoreErrors(_BadStore):
    """It answers 500, before or after it has done what it was asked to."""

    name = "store errors"

    def request(self, link: Link, piece: bytes) -> bytes:
        """Answer in the store's place; of some it is told all the same."""
        if not piece.startswith(VERBS) or (draw := self.take()) is None:
            return piece
        if draw.random() < 0.5:
            link.server.sendall(piece)
        link.client.sendall(FAILED)
        with suppress(OSError):
            link.client.shutdown(1)  # nothing more; what is still on its way here is not reset
            link.client.settimeout(1)
            while link.client.recv(1 << 16):
                pass
        raise Cut


class StoreCutsShort(_BadStore):
    """Bodies end before their end, on the way there and on the way back."""

    name = "store cuts short"

    def request(self, link: Link, piece: bytes) -> bytes:
        """Note which answers have a body that is worth it; break off in a body that is sent."""
        if piece.startswith(VERBS):
            link.notes["get"] = piece.startswith(b"GET ")
        if piece.startswith(b"PUT ") and (draw := self.take()) is not None:
            link.server.sendall(piece[: draw.randrange(len(piece))])
            raise Cut
        return piece

    def answer(self, link: Link, piece: bytes) -> bytes:
        """Break off in an answer with a body: its head comes through, and a beginning of the rest."""
        head, _, body = piece.partition(b"\r\n\r\n")
        if not link.notes.get("get") or not head.startswith(b"HTTP/1.1 20") or (draw := self.take()) is None:
            return piece
        length = draw.randrange(min(max(len(body), 1), LONGEST_BEGINNING))
        link.client.sendall(head + b"\r\n\r\n" + body[:length])
        raise Cut
