"""What a job is estimated to need, and how much of its limit for running is used up.

Processes of the version before go on beside it: what they write has defaults. Their jobs have no estimate, and what
they ran counts for nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LEAST = ("least_cpu_memory_bytes", "least_cuda_memory_bytes", "least_gpu_memory_bytes")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("estimate", sa.JSON(), nullable=True))
    for name in LEAST:
        op.add_column("jobs", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("run_seconds", sa.Float(53), nullable=False, server_default="0"))
    op.add_column("workers", sa.Column("gpus", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("attempts", sa.Column("counted_seconds", sa.Float(53), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "counted_seconds")
    op.drop_column("workers", "gpus")
    op.drop_column("jobs", "run_seconds")
    for name in reversed(LEAST):
        op.drop_column("jobs", name)
    op.drop_column("jobs", "estimate")
