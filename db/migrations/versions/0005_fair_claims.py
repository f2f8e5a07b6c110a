"""What a claim asks for: whose turn it is, which of a team's jobs comes first, which worker fits, and until when
a job may wait.

Processes of the version before go on beside it: what they write has defaults. They claim by age alone, and take jobs
that need more than they have.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# As db.clock and db.models had them when this was written; a migration never follows later changes.
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")
JOB_COLUMNS = (
    ("priority", sa.Integer(), "0"),
    ("needs_device", sa.String(16), "any"),
    ("needs_cores", sa.Integer(), "1"),
    ("needs_memory_bytes", sa.BigInteger(), "0"),
    ("needs_gpu_memory_bytes", sa.BigInteger(), "0"),
)
TURN: list[str | sa.TextClause] = ["state", "team_id", sa.text("priority DESC"), "queued_at", "id", "needs_device"]


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.add_column("teams", sa.Column("turn", sa.BigInteger(), nullable=True))
    for name, kind, default in JOB_COLUMNS:
        op.add_column("jobs", sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("jobs", sa.Column("wait_limit_seconds", sa.Float(53), nullable=True))
    op.add_column("jobs", sa.Column("wait_expires_at", MOMENT, nullable=True))
    op.create_index("ix_jobs_turn", "jobs", TURN)
    op.create_index("ix_jobs_state_wait_expires_at", "jobs", ["state", "wait_expires_at"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])


def downgrade() -> None:
    op.drop_index("ix_jobs_finished_at", "jobs")
    op.drop_index("ix_jobs_state_wait_expires_at", "jobs")
    op.drop_index("ix_jobs_turn", "jobs")
    op.drop_column("jobs", "wait_expires_at")
    op.drop_column("jobs", "wait_limit_seconds")
    for name, _kind, _default in reversed(JOB_COLUMNS):
        op.drop_column("jobs", name)
    op.drop_column("teams", "turn")
    op.drop_table("workers")
