"""Models whose file says itself which network it holds, and which artifact of a job a model is.

Processes of the version before go on beside it as long as no such model is uploaded, and cannot show one: they have to
be replaced before. There is no way back once one was uploaded, as the version before has no word for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("models") as table:
        table.add_column(sa.Column("derived_from", sa.JSON(), nullable=True))
        table.alter_column("architecture", existing_type=sa.JSON(), nullable=True)


def downgrade() -> None:
    with op.batch_alter_table("models") as table:
        table.alter_column("architecture", existing_type=sa.JSON(), nullable=False)
        table.drop_column("derived_from")
