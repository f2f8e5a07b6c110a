"""A TCP proxy before a server: it can hold back one process's bytes, cut a connection at a byte, or answer itself."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

PIECE_BYTES = 1 << 16
LOOK_SECONDS = 0.05


class Cut(Exception):
    """Raised by whoever looks at the bytes: both sides of this connection are closed at once."""


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.port: int = client.getpeername()[1]
        self.notes: dict[str, int] = {}  # of whoever looks at its bytes

    def is_of(self, process: int) -> bool:
        """Whether this process is at the client's end."""
        with suppress(psutil.NoSuchProcess):
            return any(
                found.laddr and found.laddr.port == self.port for found in psutil.Process(process).net_connections()
            )
        return False

    def close(self) -> None:
        """End both sides."""
        for side in (self.client, self.server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


# Looks at a piece on its way and gives what shall go on in its place. Raises Cut.
Look = Callable[[Link, bytes], bytes]


class Proxy:
    """Listens on a free port of loopback from entering to leaving its `with` block; a thread for each connection."""

    def __init__(
        self, server: str | tuple[str, int], *, request: Look | None = None, answer: Look | None = None
    ) -> None:
        """`server` is the path of a socket, or host and port; `request` sees what goes there, `answer` what returns."""
        self._server, self._request, self._answer = server, request, answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._links: set[Link] = set()
        self._held: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.close()
        for link in list(self._links):
            link.close()
        self._thread.join()

    def hold(self, process: int) -> None:
        """From now on nothing goes through to or from this process, and no connection of it is closed."""
        self._held = process

    def let_go(self) -> None:
        """All goes through again, what was held back first."""
        self._held = None

    def _accept(self) -> None:
        self._listener.settimeout(LOOK_SECONDS)
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                link = Link(client, self._connect())
            except OSError:
                client.close()  # as a server that is away
                continue
            self._links.add(link)
            threading.Thread(target=self._carry, args=(link,), name="proxy link", daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._server, tuple):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(self._server)
        return server

    def _carry(self, link: Link) -> None:
        ways = {link.client: (link.server, self._request), link.server: (link.client, self._answer)}
        held_for, is_held = None, False
        try:
            with selectors.DefaultSelector() as selector:
                for side in ways:
                    side.setblocking(True)
                    selector.register(side, selectors.EVENT_READ)
                while not self._ended.is_set():
                    if held_for != self._held:
                        held_for = self._held
                        is_held = held_for is not None and link.is_of(held_for)
                    if is_held:
                        self._ended.wait(LOOK_SECONDS)  # what is not read is kept by the kernel
                        continue
                    for key, _ in selector.select(LOOK_SECONDS):
                        if held_for != self._held:
                            break
                        source: socket.socket = key.fileobj  # type: ignore[assignment]
                        target, look = ways[source]
                        piece = source.recv(PIECE_BYTES)
                        if not piece:
                            return
                        target.sendall(look(link, piece) if look else piece)
        except (OSError, Cut, ValueError):
            pass  # either side is gone, or shall be
        finally:
            self._links.discard(link)
            link.close()
