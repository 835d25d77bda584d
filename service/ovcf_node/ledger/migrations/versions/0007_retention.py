"""What was purged and what remains of it; which bundle a result is from"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('tombstones',
    sa.Column('series_instance_uid', sa.String(length=64), nullable=False),
    sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
    sa.Column('last_number', sa.Integer(), nullable=False),
    sa.Column('source_digest', sa.String(length=64), nullable=True),
    sa.Column('at', sa.Float(), nullable=False),
    sa.Column('by', sa.String(length=64), nullable=False),
    sa.PrimaryKeyConstraint('series_instance_uid')
    )
    op.create_index('ix_tombstones_study_instance_uid', 'tombstones', ['study_instance_uid'])
    op.create_table('removals',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('store', sa.String(length=16), nullable=False),
    sa.Column('path', sa.String(length=255), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.add_column('revisions', sa.Column('images_purged_at', sa.Float(), nullable=True))
    op.add_column('revisions', sa.Column('results_purged_at', sa.Float(), nullable=True))
    op.add_column('revisions', sa.Column('bundle', sa.String(length=128), nullable=True))


def downgrade() -> None:
    op.drop_column('revisions', 'bundle')
    op.drop_column('revisions', 'results_purged_at')
    op.drop_column('revisions', 'images_purged_at')
    op.drop_table('removals')
    op.drop_index('ix_tombstones_study_instance_uid', 'tombstones')
    op.drop_table('tombstones')
