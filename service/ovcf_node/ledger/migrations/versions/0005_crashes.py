"""Readings that crashed their child process"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('revisions', sa.Column('crashes', sa.Integer(), nullable=False, server_default=sa.text('0')))
    op.add_column('revisions', sa.Column('in_flight', sa.Boolean(), nullable=False, server_default=sa.text('false')))


def downgrade() -> None:
    op.drop_column('revisions', 'in_flight')
    op.drop_column('revisions', 'crashes')
