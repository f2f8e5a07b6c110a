"""Models and data sets as their owners see them.

Bytes are shared by every row with the same SHA-256, so writing and dropping them must not cross. `create_model` and
`create_dataset` therefore take a lock on the hash that lasts until the session ends: let the store publish the bytes
inside the same `with database.session()` block. Bytes are dropped after the block that deletes the row, in one of
their own (service.stored_bytes).
"""

from __future__ import annotations

from itertools import accumulate
from typing import TypeVar

from sqlalchemy import Function, Integer, Text, cast, func, or_, select, update
from sqlalchemy.orm import Session, undefer

from db.clock import now
from db.errors import InUse, NotFound
from db.ids import new_id
from db.models import Dataset, Job, JobStudent, Model
from db.postgresql import is_postgresql, set_until_end
from db.queries import lineage
from db.queries.texts import storable
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.network import Preprocessing
from modelpress.spec.state import UNFINISHED_STATES

Row = TypeVar("Row", Model, Dataset)

PAGE_BYTES = 4 << 20
"""What the inspections on a page of a list come to, as stored; as objects they take some ten to twenty times that."""


def create_model(
    session: Session,
    team_id: str,
    *,
    name: str,
    format: ModelFormat,
    architecture: ArchitectureRef | None,
    image_size: int | None,
    preprocessing: Preprocessing | None,
    sha256: str,
    size: int,
) -> Model:
    """A new model, to be inspected; it says which artifact of the team's it is.

    Locks the hash until the session ends. Raises InvalidText.
    """
    hold_bytes(session, sha256)
    model = Model(
        id=new_id("mdl"),
        team_id=team_id,
        name=storable("name", name),
        format=format,
        architecture=architecture,
        image_size=image_size,
        preprocessing=preprocessing,
        derived_from=lineage.origin(session, team_id, sha256),
        sha256=sha256,
        size=size,
        inspection=None,  # said, so that it is known of the new row: it is never loaded unasked
    )
    session.add(model)
    session.flush()
    return model


def create_dataset(session: Session, team_id: str, *, name: str, sha256: str, size: int) -> Dataset:
    """A new data set, to be inspected. Locks the hash until the session ends. Raises InvalidText."""
    hold_bytes(session, sha256)
    dataset = Dataset(
        id=new_id("dts"), team_id=team_id, name=storable("name", name), sha256=sha256, size=size, inspection=None
    )
    session.add(dataset)
    session.flush()
    return dataset


def get_model(session: Session, team_id: str, model_id: str) -> Model | None:
    """The team's model with its inspection, unless it was deleted."""
    return _get(session, Model, team_id, model_id)


def get_dataset(session: Session, team_id: str, dataset_id: str) -> Dataset | None:
    """The team's data set with its inspection, unless it was deleted."""
    return _get(session, Dataset, team_id, dataset_id)


def list_models(
    session: Session, team_id: str, *, after: str | None = None, limit: int
) -> tuple[list[Model], str | None]:
    """A page of the team's models with their inspections, newest first, and the `after` of the next page, if any.

    At most `limit` of them; fewer where their inspections would come to more than PAGE_BYTES, but one at least.
    """
    return _list(session, Model, team_id, after, limit)


def list_datasets(
    session: Session, team_id: str, *, after: str | None = None, limit: int
) -> tuple[list[Dataset], str | None]:
    """A page of the team's data sets. As `list_models`."""
    return _list(session, Dataset, team_id, after, limit)


def delete_model(session: Session, team_id: str, model_id: str) -> str:
    """Delete a model. Returns the hash of its bytes: to be dropped after the session, unless another row names them.

    Raises NotFound; InUse while a job that is not finished uses it.
    """
    return _delete(session, Model, team_id, model_id)


def delete_dataset(session: Session, team_id: str, dataset_id: str) -> str:
    """Delete a data set. As `delete_model`."""
    return _delete(session, Dataset, team_id, dataset_id)


DROPPING = "modelpress: drops bytes"
"""What a connection is named, for whoever looks at the server, while it holds a hash to drop its bytes."""


def hold_bytes(session: Session, sha256: str, *, to_drop: bool = False) -> None:
    """Lock a hash until the session ends: nobody else drops or publishes these bytes meanwhile.

    `to_drop` for who drops them inside the session, however long the store takes for it: were the lock lost before
    (`db.database.FROZEN_SECONDS`), the same bytes could be put by another, and dropped all the same.
    """
    # A writing session on SQLite holds the whole database already.
    if is_postgresql(session):
        if to_drop:
            _be_patient(session)
        session.execute(select(func.pg_advisory_xact_lock(_lock_of(sha256))))


def hold_bytes_unless_held(session: Session, sha256: str) -> bool:
    """As `hold_bytes` to drop them, but False where somebody else holds them: who is stuck with some bytes, in front
    of a store that does not answer say, keeps nobody from the others."""
    if not is_postgresql(session):
        return True
    _be_patient(session)
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(_lock_of(sha256)))))


def _be_patient(session: Session) -> None:
    set_until_end(session, idle_in_transaction_session_timeout="0", application_name=DROPPING)


def _lock_of(sha256: str) -> Function[int]:
    return func.hashtextextended(sha256, 0)


def _get(session: Session, table: type[Row], team_id: str, row_id: str) -> Row | None:
    query = select(table).where(table.id == row_id, table.team_id == team_id, table.deleted_at.is_(None))
    return session.scalar(query.options(undefer(table.inspection)))


def _list(
    session: Session, table: type[Row], team_id: str, after: str | None, limit: int
) -> tuple[list[Row], str | None]:
    # First how long each inspection is, then those that fit: the database measures them without sending them.
    length = func.coalesce(func.length(cast(table.inspection, Text)), 0, type_=Integer)
    query = select(table.id, length).where(table.team_id == team_id, table.deleted_at.is_(None))
    if after is not None:
        query = query.where(table.id < after)
    found = session.execute(query.order_by(table.id.desc()).limit(limit + 1)).all()
    fitting = sum(total <= PAGE_BYTES for total in accumulate(size for _, size in found[:limit]))
    ids = [row_id for row_id, _ in found[: max(1, fitting)]]
    page = select(table).where(table.id.in_(ids), table.deleted_at.is_(None)).order_by(table.id.desc())
    rows = session.scalars(page.options(undefer(table.inspection))).all() if ids else []
    return list(rows), ids[-1] if len(ids) < len(found) else None


def _delete(session: Session, table: type[Row], team_id: str, row_id: str) -> str:
    kind = "model" if table is Model else "data set"
    # The row's lock keeps `create_job` and `retry` from taking it in between.
    row = session.scalar(
        select(table)
        .where(table.id == row_id, table.team_id == team_id, table.deleted_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound(kind, row_id)
    of_student = select(JobStudent.job_id).where(JobStudent.model_id == row_id)
    # By team and state, as what it has not finished is little beside all that was ever done with a model.
    uses = select(Job.id).where(
        Job.team_id == team_id,
        Job.state.in_(UNFINISHED_STATES),
        or_(Job.model_id == row_id, Job.dataset_id == row_id, Job.id.in_(of_student)),
    )
    job_id = session.scalar(uses.limit(1))
    if job_id is not None:
        raise InUse(kind, row_id, job_id)
    session.execute(
        update(table).where(table.id == row_id).values(deleted_at=now(), worker=None, lease_expires_at=None)
    )
    return row.sha256
