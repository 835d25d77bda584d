"""The catalogue of result instances, for queries"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXED = (
    "accession_number", "patient_id", "patient_name", "patient_name_ideographic", "patient_name_phonetic",
    "series_instance_uid", "study_date", "study_instance_uid",
)


def _matched(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "catalogue",
        sa.Column("result_id", sa.Integer(), autoincrement=False, nullable=False),
        _matched("patient_id", False),
        _matched("issuer_of_patient_id", False),
        _matched("patient_name"),
        _matched("patient_name_ideographic"),
        _matched("patient_name_phonetic"),
        _matched("patient_birth_date"),
        _matched("patient_sex"),
        _matched("study_instance_uid", False),
        _matched("study_date"),
        _matched("study_time"),
        _matched("accession_number"),
        _matched("study_id"),
        _matched("study_description"),
        _matched("referring_physician_name"),
        _matched("series_instance_uid", False),
        sa.Column("series_number", sa.Integer()),
        _matched("modality"),
        _matched("series_date"),
        _matched("series_time"),
        _matched("series_description"),
        _matched("body_part_examined"),
        _matched("sop_instance_uid", False),
        _matched("sop_class_uid", False),
        sa.Column("instance_number", sa.Integer()),
        _matched("content_date"),
        _matched("content_time"),
        _matched("completion_flag"),
        _matched("verification_flag"),
        _matched("concept_name_code_value"),
        _matched("concept_name_coding_scheme"),
        _matched("template_identifier"),
        sa.Column("character_set", sa.String(length=255), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("result_id"),
        sa.UniqueConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("catalogue", schema=None) as batch_op:
        for column in INDEXED:
            batch_op.create_index(batch_op.f(f"ix_catalogue_{column}"), [column], unique=False)


def downgrade() -> None:
    op.drop_table("catalogue")
