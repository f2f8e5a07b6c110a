"""Indexes by which lists are as fast with a million jobs as with a thousand, and which code the tables serve.

Processes of the version before go on beside it: nothing that they read or write has changed. Deleting a model is
slower for them where there are very many jobs, as they look for its jobs by an index that is gone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.index_migration import create_index, drop_index

revision = "0008"
down_revision = "0007"
compatible_from = "0005"

INDEXES = (("team_id", "state", "id"), ("team_id", "model_id", "id"), ("team_id", "model_id", "state", "id"))
REPLACED = ("model_id", "dataset_id")


def upgrade() -> None:
    for columns in INDEXES:
        create_index(f"ix_jobs_{'_'.join(columns)}", "jobs", columns)
    for column in REPLACED:
        drop_index(f"ix_jobs_{column}", "jobs")
    op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest_revision", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compatibility"),
    )


def downgrade() -> None:
    for column in REPLACED:
        create_index(f"ix_jobs_{column}", "jobs", (column,))
    for columns in INDEXES:
        drop_index(f"ix_jobs_{'_'.join(columns)}", "jobs")
    op.drop_table("compatibility")
