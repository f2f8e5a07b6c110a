"""Which uploaded models the students of a job begin as.

One table more and nothing else, so that processes of the version before go on beside it: they neither write nor read
it, and accept no job that would have a row in it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# As db.models had it when this was written; a migration never follows later changes.
ID = sa.String(40)


def upgrade() -> None:
    op.create_table(
        "job_students",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "model_id", name="pk_job_students"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_students_job_id_jobs"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_job_students_model_id_models"),
    )
    op.create_index("ix_job_students_model_id", "job_students", ["model_id"])


def downgrade() -> None:
    op.drop_table("job_students")
