"""What an API has kept: rows of uploads, and files in its folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from db.models import Dataset, Model
from service.settings import Settings
from tests.support.api_server import ApiServer


def kept_files(settings: Settings) -> list[Path]:
    """Every file in the store, finished or not."""
    return [path for path in (settings.home / "store").rglob("*") if path.is_file()]


def _rows(server: ApiServer) -> int:
    with server.database.session(read_only=True) as session:
        return sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in (Model, Dataset))


def assert_nothing_kept(server: ApiServer) -> None:
    """No row, no file, finished or not."""
    assert _rows(server) == 0
    assert kept_files(server.settings) == []
