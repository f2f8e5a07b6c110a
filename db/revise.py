"""Write the next migration: `python -m db.revise "what it is for"`, after `db/models.py` was changed.

It compares the models with the tables that the migrations make so far. Read what it wrote before you keep it: a
renamed column looks like one that went and one that came.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from db import migrate
from db.models import Base

log = logging.getLogger(__name__)


def revise(message: str, folder: Path = migrate.FOLDER) -> Path | None:
    """Write the migration into `folder`. Returns its path; None when the models ask for no change."""
    with tempfile.TemporaryDirectory() as scratch:
        engine = create_engine(f"sqlite:///{scratch}/scratch.db")
        try:
            with engine.begin() as connection:
                migrate.upgrade(connection)
                if not compare_metadata(MigrationContext.configure(connection), Base.metadata):
                    return None
                return migrate.write(connection, message, folder)
        finally:
            engine.dispose()


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    if len(sys.argv) != 2:
        sys.exit('usage: python -m db.revise "what the migration is for"')
    written = revise(sys.argv[1])
    log.info("nothing to migrate" if written is None else f"wrote {written}; read it before you keep it")
