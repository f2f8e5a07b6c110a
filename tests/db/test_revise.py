"""The next migration is written from the models."""

from __future__ import annotations

import importlib.util

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine

from db import migrate
from db.clock import UtcTimestamp
from db.models import Base
from db.revise import revise
from db.text import Text


@pytest.fixture
def changed_models(monkeypatch):
    """The models with one more table, as long as the test runs."""
    metadata = sa.MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(metadata)
    sa.Table(
        "webhooks",
        metadata,
        sa.Column("id", Text(40), primary_key=True),
        sa.Column("url", Text()),
        sa.Column("called_at", UtcTimestamp()),
    )
    monkeypatch.setattr(Base, "metadata", metadata)


def test_nothing_is_written_while_the_migrations_make_the_models(tmp_path):
    (tmp_path / "versions").mkdir()
    assert revise("nothing", tmp_path) is None
    assert list(tmp_path.rglob("*.py")) == []


def test_a_new_table_becomes_the_next_migration(tmp_path, changed_models):
    (tmp_path / "versions").mkdir()
    path = revise("call webhooks", tmp_path)
    number = f"{int(migrate.head()) + 1:04d}"
    assert path == tmp_path / "versions" / f"{number}_call_webhooks.py"
    text = path.read_text()
    assert '"""call webhooks"""' in text
    assert "db." not in text  # it does not change when our types do
    spec = importlib.util.spec_from_file_location("written", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.revision, module.down_revision) == (number, migrate.head())
    assert callable(module.upgrade)
    assert callable(module.downgrade)
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            module.upgrade()
        assert [column["name"] for column in sa.inspect(connection).get_columns("webhooks")] == [
            "id",
            "url",
            "called_at",
        ]
    engine.dispose()
