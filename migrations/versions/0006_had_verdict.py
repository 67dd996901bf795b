"""judgements tell a plain skip from one in the place of a verdict; of those from before it is not known

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study_judgements") as judgements:
        judgements.add_column(sa.Column("had_verdict", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE study_judgements SET had_verdict = verdict IS NOT NULL")


def downgrade() -> None:
    with op.batch_alter_table("study_judgements") as judgements:
        judgements.drop_column("had_verdict")
