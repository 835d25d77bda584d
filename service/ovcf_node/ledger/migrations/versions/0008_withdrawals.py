"""Which deliveries were withdrawn and by which rejection note, and what source rejection notes named"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0006'
branch_labels = None
depends_on = None

_UNNOTED = sa.text('withdrawn_as IS NOT NULL AND withdrawn_by IS NULL')


def upgrade() -> None:
    op.add_column('deliveries', sa.Column('withdrawn_as', sa.String(16), nullable=True))
    op.add_column('deliveries', sa.Column('withdrawn_by', sa.Integer(), nullable=True))
    op.create_index('ix_deliveries_withdrawn', 'deliveries', ['destination'],
                    sqlite_where=_UNNOTED, postgresql_where=_UNNOTED)
    op.create_table(
        'rejected_sources',
        sa.Column('sop_instance_uid', sa.String(64), primary_key=True),
        sa.Column('study_instance_uid', sa.String(64), nullable=False),
        sa.Column('title', sa.String(16), nullable=False),
        sa.Column('rejected_at', sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table('rejected_sources')
    op.drop_index('ix_deliveries_withdrawn', 'deliveries')
    op.drop_column('deliveries', 'withdrawn_by')
    op.drop_column('deliveries', 'withdrawn_as')
