"""Which work is the same, and what is kept of it for the next.

Columns that may be null, and a table more: processes of the version before go on beside it. A job that one of them
accepts or runs has no identity, and is run; what they carry out is kept for nobody.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

# As db.clock and db.models had them when this was written; a migration never follows later changes.
ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("identity", sa.String(64), nullable=True))
    op.add_column("jobs", sa.Column("reused_from", ID, nullable=True))
    op.create_index("ix_jobs_identity_team_id", "jobs", ["identity", "team_id"])
    op.create_table(
        "step_results",
        sa.Column("id", ID, nullable=False),
        sa.Column("team_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_step_results"),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_step_results_team_id_teams"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_step_results_job_id_jobs"),
    )
    op.create_index("ix_step_results_team_id_fingerprint", "step_results", ["team_id", "fingerprint"])
    op.create_index("ix_step_results_sha256", "step_results", ["sha256"])


def downgrade() -> None:
    op.drop_table("step_results")
    op.drop_index("ix_jobs_identity_team_id", "jobs")
    op.drop_column("jobs", "reused_from")
    op.drop_column("jobs", "identity")
