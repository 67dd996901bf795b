"""pause: when it was asked for, what a person is to look at, and what they have accepted

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("pause_requested_at", sa.DateTime(timezone=True), nullable=True))
        jobs.add_column(sa.Column("pause", sa.JSON(none_as_null=True), nullable=True))
        jobs.add_column(sa.Column("accepted", sa.JSON(none_as_null=True), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for name in ("accepted", "pause", "pause_requested_at"):
            jobs.drop_column(name)
