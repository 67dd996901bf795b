"""human studies, comparisons, the promotion gate; whose key posted a job; scores that are not valid

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("key_id", sa.String(), nullable=True))
    with op.batch_alter_table("scores") as scores:
        scores.add_column(sa.Column("is_valid", sa.Boolean(), nullable=False, server_default=sa.true()))

    op.create_table(
        "studies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["artifacts.id"], name=op.f("fk_studies_evaluation_id_artifacts")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_studies_key_id_api_keys")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_studies_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    op.create_index(op.f("ix_studies_evaluation_id"), "studies", ["evaluation_id"], unique=False)
    op.create_index(op.f("ix_studies_team_id_created_at"), "studies", ["team_id", "created_at"], unique=False)

    op.create_table(
        "study_items",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=True),
        sa.Column("cluster", sa.Double(), nullable=True),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("is_messages", sa.Boolean(), nullable=False),
        sa.Column("first", sa.String(), nullable=False),
        sa.Column("second", sa.String(), nullable=False),
        sa.Column("is_swapped", sa.Boolean(), nullable=False),
        sa.Column("expected", sa.String(), nullable=True),
        sa.Column("raters_wanted", sa.BigInteger(), nullable=False),
        sa.Column("is_warned", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_study_items_study_id_studies")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_study_items_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_items")),
    )
    op.create_index(op.f("ix_study_items_study_id"), "study_items", ["study_id"], unique=False)
    op.create_index(op.f("ix_study_items_team_id"), "study_items", ["team_id"], unique=False)

    op.create_table(
        "study_raters",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(key_id IS NULL) <> (sha256 IS NULL)", name=op.f("ck_study_raters_one_proof")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_study_raters_key_id_api_keys")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_study_raters_study_id_studies")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_study_raters_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_raters")),
        sa.UniqueConstraint("sha256", name=op.f("uq_study_raters_sha256")),
        sa.UniqueConstraint("study_id", "key_id", name=op.f("uq_study_raters_study_id_key_id")),
    )
    op.create_index(op.f("ix_study_raters_prefix"), "study_raters", ["prefix"], unique=False)
    op.create_index(op.f("ix_study_raters_team_id"), "study_raters", ["team_id"], unique=False)

    op.create_table(
        "study_judgements",
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("rater_id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("shown_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["item_id"], ["study_items.id"], name=op.f("fk_study_judgements_item_id_study_items")),
        sa.ForeignKeyConstraint(
            ["rater_id"], ["study_raters.id"], name=op.f("fk_study_judgements_rater_id_study_raters")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_study_judgements_study_id_studies")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_study_judgements_team_id_teams")),
        sa.PrimaryKeyConstraint("item_id", "rater_id", name=op.f("pk_study_judgements")),
    )
    op.create_index(op.f("ix_study_judgements_study_id"), "study_judgements", ["study_id"], unique=False)
    op.create_index(op.f("ix_study_judgements_team_id"), "study_judgements", ["team_id"], unique=False)

    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("is_forced", sa.Boolean(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_comparisons_key_id_api_keys")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_comparisons_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index(op.f("ix_comparisons_team_id_created_at"), "comparisons", ["team_id", "created_at"], unique=False)

    op.create_table(
        "policies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_policies_key_id_api_keys")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_policies_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("team_id", "name", name=op.f("uq_policies_team_id_name")),
    )
    op.create_index(op.f("ix_policies_team_id_created_at"), "policies", ["team_id", "created_at"], unique=False)

    op.create_table(
        "releases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("trainer_key_id", sa.String(), nullable=True),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("clauses", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recalled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_releases_artifact_id_artifacts")),
        sa.ForeignKeyConstraint(["evaluation_id"], ["artifacts.id"], name=op.f("fk_releases_evaluation_id_artifacts")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_releases_key_id_api_keys")),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_releases_policy_id_policies")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_releases_team_id_teams")),
        sa.ForeignKeyConstraint(["trainer_key_id"], ["api_keys.id"], name=op.f("fk_releases_trainer_key_id_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
    )
    op.create_index(op.f("ix_releases_artifact_id"), "releases", ["artifact_id"], unique=False)
    op.create_index(op.f("ix_releases_evaluation_id"), "releases", ["evaluation_id"], unique=False)
    op.create_index(op.f("ix_releases_policy_id"), "releases", ["policy_id"], unique=False)
    op.create_index(op.f("ix_releases_team_id_created_at"), "releases", ["team_id", "created_at"], unique=False)

    op.create_table(
        "release_events",
        sa.Column("release_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_release_events_key_id_api_keys")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_release_events_release_id_releases")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_release_events_team_id_teams")),
        sa.PrimaryKeyConstraint("release_id", "seq", name=op.f("pk_release_events")),
    )
    op.create_index(op.f("ix_release_events_team_id"), "release_events", ["team_id"], unique=False)

    op.create_table(
        "downloads",
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_downloads_artifact_id_artifacts")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_downloads_key_id_api_keys")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_downloads_team_id_teams")),
        sa.PrimaryKeyConstraint("artifact_id", "key_id", "path", name=op.f("pk_downloads")),
    )
    op.create_index(op.f("ix_downloads_team_id"), "downloads", ["team_id"], unique=False)


def downgrade() -> None:
    op.drop_table("downloads")
    op.drop_table("release_events")
    op.drop_table("releases")
    op.drop_table("policies")
    op.drop_table("comparisons")
    op.drop_table("study_judgements")
    op.drop_table("study_raters")
    op.drop_table("study_items")
    op.drop_table("studies")
    with op.batch_alter_table("scores") as scores:
        scores.drop_column("is_valid")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("key_id")
