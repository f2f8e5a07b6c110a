"""A connection over a network is not waited for by the hour when its other end is gone."""

from __future__ import annotations

import socket

from sqlalchemy import make_url, text

from db.database import open_database
from tests.faults.proxy import Proxy

HALF_A_MINUTE = 30


def test_a_silent_server_is_given_up_within_half_a_minute(postgres_url):
    url = make_url(postgres_url)
    with Proxy(f"{url.query['host']}/.s.PGSQL.{url.port or 5432}") as proxy:
        way = url.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
        database = open_database(way.render_as_string(hide_password=False))
        try:
            with database.session() as session:
                assert session.scalar(text("SELECT 1")) == 1
                connection = session.connection().connection.driver_connection
                with socket.socket(fileno=connection.fileno()) as found:
                    option = lambda name: found.getsockopt(socket.IPPROTO_TCP, name)  # noqa: E731
                    idle, between = option(socket.TCP_KEEPIDLE), option(socket.TCP_KEEPINTVL)
                    count, unanswered = option(socket.TCP_KEEPCNT), option(socket.TCP_USER_TIMEOUT)
                    found.detach()
        finally:
            database.dispose()
    assert idle + between * count <= HALF_A_MINUTE
    assert 0 < unanswered <= HALF_A_MINUTE * 1000
