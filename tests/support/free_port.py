"""A port of loopback that nobody listens on."""

from __future__ import annotations

import os
import random
import socket

# Below the ports that Linux gives to outgoing connections (32768 and up), of which tests make thousands: a port from
# there could be taken between the look and the use.
_SHARE = 1_500  # of each process that tests run in, eight at most: two of them never draw the same
_FIRST = 20_000 + _SHARE * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8)
_LISTENING = range(_FIRST, _FIRST + _SHARE)
_given: set[int] = set()


def free_port(count: int = 1) -> int:
    """The first of `count` free ports in a row, none of which was given to this process before."""
    while True:
        first = random.SystemRandom().choice(_LISTENING)
        ports = range(first, first + count)
        if _given.isdisjoint(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
