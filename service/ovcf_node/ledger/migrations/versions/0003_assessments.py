"""Readers' assessments, and indexes for the status page"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('assessments',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('revision_id', sa.Integer(), nullable=False),
    sa.Column('level', sa.String(length=4), nullable=False),
    sa.Column('verdict', sa.String(length=16), nullable=False),
    sa.Column('corrected_level', sa.String(length=4), nullable=True),
    sa.Column('reader', sa.String(length=64), nullable=False),
    sa.Column('reader_name', sa.String(length=64), nullable=False),
    sa.Column('at', sa.Float(), nullable=False),
    sa.ForeignKeyConstraint(['revision_id'], ['revisions.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('revision_id', 'level')
    )
    op.create_index('ix_assessments_revision_id', 'assessments', ['revision_id'])
    op.add_column('revisions', sa.Column('reading_of', sa.Integer(), nullable=True))
    op.create_index('ix_revisions_reading_of', 'revisions', ['reading_of'])
    op.create_index('ix_events_study_instance_uid', 'events', ['study_instance_uid'])
    op.create_index('ix_revisions_updated_at', 'revisions', ['updated_at'])
    op.create_index('ix_revisions_state_updated_at', 'revisions', ['state', 'updated_at'])
    op.create_index('ix_deliveries_destination', 'deliveries', ['destination', 'state', 'updated_at'])
    op.create_index('ix_instances_sender', 'instances', ['calling_ae_title', 'received_at'])


def downgrade() -> None:
    op.drop_index('ix_instances_sender', 'instances')
    op.drop_index('ix_deliveries_destination', 'deliveries')
    op.drop_index('ix_revisions_state_updated_at', 'revisions')
    op.drop_index('ix_revisions_updated_at', 'revisions')
    op.drop_index('ix_events_study_instance_uid', 'events')
    op.drop_index('ix_revisions_reading_of', 'revisions')
    op.drop_column('revisions', 'reading_of')
    op.drop_table('assessments')
