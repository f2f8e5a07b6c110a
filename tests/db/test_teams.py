"""Teams and their keys."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from db.clock import now_plus
from db.errors import InvalidText, NotFound
from db.models import ApiKey
from db.queries.teams import create_key, create_team, find_key, find_or_create_team, list_keys, revoke_key, touch_key
from tests.support.rows import new_tenant

BOTH = frozenset({"read", "write"})


def _new_key(database, team_id, scopes=BOTH):
    with database.session() as session:
        return create_key(session, team_id, "laptop", scopes)


def _find(database, plaintext):
    with database.session(read_only=True) as session:
        return find_key(session, plaintext)


def test_a_key_is_found_by_its_text_and_names_team_and_scopes(database):
    tenant = new_tenant(database)
    key, plaintext = _new_key(database, tenant.team_id, frozenset({"read"}))
    found = _find(database, plaintext)
    assert (found.id, found.team_id, found.scopes, found.name) == (key.id, tenant.team_id, ["read"], "laptop")
    assert found.last_used_at is None


def test_a_key_has_256_random_bits_and_only_its_hash_is_kept(database):
    tenant = new_tenant(database)
    key, plaintext = _new_key(database, tenant.team_id)
    assert plaintext.startswith("mp_")
    assert len(plaintext) == 3 + 43  # 32 bytes in base64 without padding
    assert key.sha256 == hashlib.sha256(plaintext.encode()).hexdigest()
    with database.session(read_only=True) as session:
        stored = session.execute(text("SELECT * FROM api_keys")).one()
    assert not any(plaintext[3:] in str(value) for value in stored)
    assert _new_key(database, tenant.team_id)[1] != plaintext


@pytest.mark.parametrize("wrong", ["", "mp_", "mp_wrong", "MP_", "\x00"])
def test_another_text_finds_nothing(database, wrong):
    _, plaintext = _new_key(database, new_tenant(database).team_id)
    assert _find(database, wrong) is None
    assert _find(database, plaintext.upper()) is None
    assert _find(database, plaintext + "x") is None


def test_a_revoked_key_is_gone_and_only_its_own_team_can_revoke_it(database):
    ours, theirs = new_tenant(database, "ours"), new_tenant(database, "theirs")
    key, plaintext = _new_key(database, ours.team_id)
    other, _ = _new_key(database, ours.team_id)
    with pytest.raises(NotFound), database.session() as session:
        revoke_key(session, theirs.team_id, key.id)
    assert _find(database, plaintext) is not None
    for _ in range(2):
        with database.session() as session:
            revoke_key(session, ours.team_id, key.id)
    assert _find(database, plaintext) is None
    with database.session(read_only=True) as session:
        assert [row.id for row in list_keys(session, ours.team_id)] == [other.id]
        assert list_keys(session, theirs.team_id) == []


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({"admin"}), frozenset({"read", "admin"})])
def test_scopes_are_known_ones(database, scopes):
    tenant = new_tenant(database)
    with pytest.raises(ValueError, match="scopes are"):
        _new_key(database, tenant.team_id, scopes)


def test_use_is_noted_at_most_once_a_minute(database):
    key, plaintext = _new_key(database, new_tenant(database).team_id)

    def touch():
        with database.session() as session:
            touch_key(session, key.id)
        return _find(database, plaintext).last_used_at

    first = touch()
    assert first is not None
    assert touch() == first
    with database.session() as session:
        session.execute(update(ApiKey).values(last_used_at=now_plus(-61)))
    assert first - timedelta(seconds=61) < touch()
    assert touch() >= first


def test_a_name_that_cannot_be_stored_is_refused(database):
    with pytest.raises(InvalidText, match="U\\+0000"), database.session() as session:
        create_team(session, "a\x00b")


def test_a_team_that_several_want_at_once_is_made_once(database):
    def want(_: int) -> str:
        with database.session() as session:
            return find_or_create_team(session, "wanted").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(want, range(8)))) == 1
