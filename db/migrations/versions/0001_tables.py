"""The first tables: teams, keys, uploads, jobs and what happens to them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# As db.clock, db.document and db.models had them when this was written; a migration never follows later changes.
ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")
DOCUMENT = sa.JSON()
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String(16)


def _column(name: str, kind: sa.types.TypeEngine[Any], *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _upload_columns() -> list[sa.Column[Any]]:
    return [
        _column("id", ID),
        _column("team_id", ID),
        _column("name", sa.String()),
        _column("sha256", sa.String(64)),
        _column("size", sa.BigInteger()),
        _column("state", WORD),
        _column("failure", DOCUMENT, null=True),
        _column("attempt", sa.Integer()),
        _column("losses", sa.Integer()),
        _column("worker", sa.String(), null=True),
        _column("lease_expires_at", MOMENT, null=True),
        _column("created_at", MOMENT),
        _column("deleted_at", MOMENT, null=True),
        _column("inspection", DOCUMENT, null=True),
    ]


def _create(table: str, columns: list[sa.Column[Any]], *, key: tuple[str, ...] = ("id",), **refers: str) -> None:
    constraints = [
        sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}_{target}")
        for column, target in refers.items()
    ]
    op.create_table(table, *columns, sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"), *constraints)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _unique(table: str, *columns: str) -> None:
    with op.batch_alter_table(table) as batch:
        batch.create_unique_constraint(f"uq_{table}_{'_'.join(columns)}", list(columns))


def upgrade() -> None:
    _create("teams", [_column("id", ID), _column("name", sa.String()), _column("created_at", MOMENT)])
    _create(
        "api_keys",
        [
            _column("id", ID),
            _column("team_id", ID),
            _column("name", sa.String()),
            _column("sha256", sa.String(64)),
            _column("scopes", DOCUMENT),
            _column("created_at", MOMENT),
            _column("last_used_at", MOMENT, null=True),
            _column("revoked_at", MOMENT, null=True),
        ],
        team_id="teams",
    )
    _unique("api_keys", "sha256")
    _index("api_keys", "team_id")
    _create(
        "models",
        [
            *_upload_columns(),
            _column("format", WORD),
            _column("architecture", DOCUMENT),
            _column("image_size", sa.Integer(), null=True),
            _column("preprocessing", DOCUMENT, null=True),
        ],
        team_id="teams",
    )
    _create("datasets", _upload_columns(), team_id="teams")
    for table in ("models", "datasets"):
        _index(table, "team_id", "id")
        _index(table, "state", "created_at")
        _index(table, "sha256")
    _create(
        "jobs",
        [
            _column("id", ID),
            _column("team_id", ID),
            _column("name", sa.String()),
            _column("model_id", ID),
            _column("dataset_id", ID, null=True),
            _column("spec", DOCUMENT),
            _column("idempotency_key", sa.String(), null=True),
            _column("state", WORD),
            _column("version", sa.Integer()),
            _column("last_seq", sa.Integer()),
            _column("attempt", sa.Integer()),
            _column("losses", sa.Integer()),
            _column("worker", sa.String(), null=True),
            _column("lease_expires_at", MOMENT, null=True),
            _column("progress", DOCUMENT, null=True),
            _column("progress_recorded_at", MOMENT, null=True),
            _column("failure", DOCUMENT, null=True),
            _column("ratios", DOCUMENT, null=True),
            _column("report", DOCUMENT, null=True),
            _column("created_at", MOMENT),
            _column("queued_at", MOMENT),
            _column("started_at", MOMENT, null=True),
            _column("finished_at", MOMENT, null=True),
        ],
        team_id="teams",
        model_id="models",
        dataset_id="datasets",
    )
    _unique("jobs", "team_id", "idempotency_key")
    _index("jobs", "team_id", "id")
    _index("jobs", "state", "queued_at", "id")
    _index("jobs", "model_id")
    _index("jobs", "dataset_id")
    _create(
        "attempts",
        [
            _column("job_id", ID),
            sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
            _column("worker", sa.String()),
            _column("started_at", MOMENT),
            _column("finished_at", MOMENT, null=True),
            _column("outcome", WORD, null=True),
        ],
        key=("job_id", "number"),
        job_id="jobs",
    )
    _create(
        "events",
        [
            _column("job_id", ID),
            sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
            _column("attempt", sa.Integer()),
            _column("kind", WORD),
            _column("event", DOCUMENT),
            _column("created_at", MOMENT),
        ],
        key=("job_id", "seq"),
        job_id="jobs",
    )
    _create(
        "metrics",
        [
            _column("id", NUMBER),
            _column("job_id", ID),
            _column("attempt", sa.Integer()),
            _column("stage", WORD),
            _column("step", sa.Integer(), null=True),
            _column("epoch", sa.Integer(), null=True),
            _column("name", sa.String()),
            _column("value", sa.Float(53)),
            _column("created_at", MOMENT),
        ],
        job_id="jobs",
    )
    _index("metrics", "job_id", "name")
    _create(
        "artifacts",
        [
            _column("id", ID),
            _column("job_id", ID),
            _column("attempt", sa.Integer()),
            _column("kind", WORD),
            _column("filename", sa.String()),
            _column("size", sa.BigInteger()),
            _column("sha256", sa.String(64)),
            _column("content_type", sa.String()),
            _column("created_at", MOMENT),
        ],
        job_id="jobs",
    )
    _unique("artifacts", "job_id", "attempt", "filename")
    _index("artifacts", "sha256")


def downgrade() -> None:
    for table in ("artifacts", "metrics", "events", "attempts", "jobs", "datasets", "models", "api_keys", "teams"):
        op.drop_table(table)
