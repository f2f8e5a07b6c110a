"""Which rows name which bytes of the store: what the store keeps is needed as long as a row names it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from db.models import Artifact, Dataset, Model

# Every table whose `sha256` names bytes of the store, and its rows that still do: jobs keep their artifacts for ever,
# what was uploaded can be deleted. Bytes of a table that is missing here would be dropped.
HOLDERS: dict[type[Model] | type[Dataset] | type[Artifact], ColumnElement[bool]] = {
    Model: Model.deleted_at.is_(None),
    Dataset: Dataset.deleted_at.is_(None),
    Artifact: true(),
}


def is_needed(session: Session, sha256: str) -> bool:
    """True while a row names these bytes. To act upon the answer, hold them first (`hold_bytes`)."""
    return any(
        session.scalar(select(table.id).where(table.sha256 == sha256, holds).limit(1)) is not None
        for table, holds in HOLDERS.items()
    )
