"""Where the client finds a service and its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.client import Client, NotConfigured
from modelpress.client.address import find_address


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELPRESS_URL", raising=False)
    monkeypatch.delenv("MODELPRESS_API_KEY", raising=False)
    monkeypatch.setenv("MODELPRESS_HOME", str(tmp_path))


def _leave(home: Path, url: str = "http://127.0.0.1:8000", key: str = "mp_local") -> None:
    (home / "address").write_text(url + "\n")
    (home / "api-key").write_text(key + "\n")


def test_arguments_win_over_the_environment_and_the_environment_over_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave(tmp_path)
    found = find_address()
    assert (found.url, found.key) == ("http://127.0.0.1:8000", "mp_local")
    monkeypatch.setenv("MODELPRESS_URL", "https://press.example/")
    monkeypatch.setenv("MODELPRESS_API_KEY", "mp_environment")
    found = find_address()
    assert (found.url, found.key) == ("https://press.example", "mp_environment")
    found = find_address("http://other:1", "mp_given")
    assert (found.url, found.key) == ("http://other:1", "mp_given")


def test_the_key_of_the_home_is_never_sent_to_another_server(tmp_path: Path) -> None:
    _leave(tmp_path)
    assert find_address("http://127.0.0.1:8000/").key == "mp_local"
    with pytest.raises(NotConfigured, match=r"no API key is known for https://elsewhere\.example.*MODELPRESS_API_KEY"):
        find_address("https://elsewhere.example")


def test_without_a_service_it_says_how_to_get_one() -> None:
    with pytest.raises(NotConfigured, match=r"make serve.*MODELPRESS_URL"):
        find_address()


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(NotConfigured, match="write it as http://host:port"):
        find_address("127.0.0.1:8000", "mp_x")


def test_the_key_shows_in_no_repr() -> None:
    found = find_address("http://127.0.0.1:1", "mp_secret")
    with Client("http://127.0.0.1:1", "mp_secret") as client:
        shown = [repr(found), repr(client), repr(client._connection), repr(vars(client._connection))]
    assert not [text for text in shown if "mp_secret" in text]
    assert repr(client) == "Client('http://127.0.0.1:1')"
