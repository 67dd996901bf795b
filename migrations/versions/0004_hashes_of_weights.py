"""hashes of models' weights are those that trainings and scorings record; registering again tells them

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE models SET weights_hash = NULL")


def downgrade() -> None:
    op.execute("UPDATE models SET weights_hash = NULL")
