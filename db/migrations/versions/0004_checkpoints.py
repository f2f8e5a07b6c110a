"""What is kept of jobs at work, and why their attempts ended.

A table more, and columns that may be null: processes of the version before go on beside it. They neither write nor read
what is new. A job that one of them carries out leaves no checkpoint and starts from its beginning; what is kept of a
job that one of them ends is removed by a worker of this version.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# As db.clock and db.models had them when this was written; a migration never follows later changes.
ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_checkpoints_job_id_jobs"),
    )
    op.create_index("ix_checkpoints_job_id", "checkpoints", ["job_id"])
    op.create_index("ix_checkpoints_sha256", "checkpoints", ["sha256"])
    # Without a rebuild of the table, which on SQLite would shut out who writes to it.
    op.add_column("attempts", sa.Column("reason", sa.String(), nullable=True))
    op.add_column("attempts", sa.Column("continues", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("attempts") as table:
        table.drop_column("continues")
        table.drop_column("reason")
    op.drop_table("checkpoints")
