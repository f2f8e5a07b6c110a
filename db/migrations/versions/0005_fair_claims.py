"""What a fair claim asks for: whose turn it is, and which of a team's jobs comes first.

Processes of the version before go on beside it: what they write has defaults. They claim by age alone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("teams", sa.Column("turn", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_jobs_turn", "jobs", ["state", "team_id", sa.text("priority DESC"), "queued_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_turn", "jobs")
    op.drop_column("jobs", "priority")
    op.drop_column("teams", "turn")
