"""items of studies have the turns after the first

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study_items") as items:
        later = sa.Column("later_turns", sa.JSON(none_as_null=True), nullable=False, server_default="[]")
        items.add_column(later)


def downgrade() -> None:
    with op.batch_alter_table("study_items") as items:
        items.drop_column("later_turns")
