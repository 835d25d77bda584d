"""When a series was read and answered, and an index for counting series by state and reason"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('revisions', sa.Column('inferred_at', sa.Float(), nullable=True))
    op.add_column('revisions', sa.Column('answered_at', sa.Float(), nullable=True))
    op.create_index('ix_revisions_answered_at', 'revisions', ['answered_at'])
    op.drop_index('ix_revisions_state', 'revisions')
    op.create_index('ix_revisions_state', 'revisions', ['state', 'reason_code'])


def downgrade() -> None:
    op.drop_index('ix_revisions_state', 'revisions')
    op.create_index('ix_revisions_state', 'revisions', ['state'])
    op.drop_index('ix_revisions_answered_at', 'revisions')
    op.drop_column('revisions', 'answered_at')
    op.drop_column('revisions', 'inferred_at')
