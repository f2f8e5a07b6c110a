"""The service of the demo: a home that another one left behind."""

from __future__ import annotations

from pathlib import Path

from demo.service import running_service
from modelpress.client.address import ADDRESS_FILE


def test_the_address_of_a_service_that_was_killed_is_not_taken(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ADDRESS_FILE).write_text("http://127.0.0.1:1")
    with running_service(home, tmp_path / "service.log") as client:
        assert client.url != "http://127.0.0.1:1"
        assert list(client.models()) == []
