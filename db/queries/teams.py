"""Teams and their API keys."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db.clock import now, now_plus
from db.errors import NotFound
from db.ids import new_id
from db.models import ApiKey, Team
from db.postgresql import is_postgresql
from db.queries.texts import storable

SCOPES = frozenset({"read", "write"})
KEY_PREFIX = "mp_"
_KEY_BYTES = 32
_TOUCH_SECONDS = 60


def create_team(session: Session, name: str) -> Team:
    """A new team."""
    team = Team(id=new_id("team"), name=storable("name", name))
    session.add(team)
    session.flush()
    return team


def find_or_create_team(session: Session, name: str) -> Team:
    """The team of this name, a new one if there is none: never two, whoever asks at the same time."""
    # A writing session on SQLite holds the whole database already.
    if is_postgresql(session):
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"team {name}", 0))))
    return find_team(session, name) or create_team(session, name)


def find_team(session: Session, name: str) -> Team | None:
    """The team of this name, the oldest if several share it."""
    return session.scalar(select(Team).where(Team.name == name).order_by(Team.id).limit(1))


def find_oldest_team(session: Session) -> Team | None:
    """The team that was made first; None where there is none yet."""
    return session.scalar(select(Team).order_by(Team.id).limit(1))


def get_team(session: Session, team_id: str) -> Team | None:
    """The team of this id."""
    return session.get(Team, team_id)


def create_key(session: Session, team_id: str, name: str, scopes: frozenset[str]) -> tuple[ApiKey, str]:
    """A new key of a team, and its text, which is shown this once and kept nowhere.

    Raises ValueError for a scope that is not in `SCOPES`, or for none.
    """
    if not scopes or not scopes <= SCOPES:
        raise ValueError(
            f"scopes are one or more of {', '.join(sorted(SCOPES))}; got {', '.join(sorted(scopes)) or 'none'}"
        )
    plaintext = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    key = ApiKey(
        id=new_id("key"), team_id=team_id, name=storable("name", name), sha256=_hash(plaintext), scopes=sorted(scopes)
    )
    session.add(key)
    session.flush()
    return key, plaintext


def find_key(session: Session, plaintext: str) -> ApiKey | None:
    """The key with this text, unless it was revoked. Only reads: `touch_key` notes the use."""
    return session.scalar(select(ApiKey).where(ApiKey.sha256 == _hash(plaintext), ApiKey.revoked_at.is_(None)))


def touch_key(session: Session, key_id: str) -> None:
    """Note that the key was used. Writes at most once a minute; a caller that remembers can ask less often still."""
    stale = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < now_plus(-_TOUCH_SECONDS))
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now()))


def list_keys(session: Session, team_id: str) -> list[ApiKey]:
    """The team's keys that are not revoked, newest first."""
    query = select(ApiKey).where(ApiKey.team_id == team_id, ApiKey.revoked_at.is_(None)).order_by(ApiKey.id.desc())
    return list(session.scalars(query))


def revoke_key(session: Session, team_id: str, key_id: str) -> None:
    """End a key: from now on it is not found. Doing so twice changes nothing. Raises NotFound."""
    key = session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.team_id == team_id))
    if key is None:
        raise NotFound("key", key_id)
    session.execute(update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now()))


def _hash(plaintext: str) -> str:
    # One round is right for 256 random bits: there is no dictionary to try.
    return hashlib.sha256(plaintext.encode()).hexdigest()
