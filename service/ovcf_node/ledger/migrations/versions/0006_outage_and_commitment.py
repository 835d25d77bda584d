"""Destinations that are away or held, and storage commitment in both directions"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('destinations',
    sa.Column('name', sa.String(length=32), nullable=False),
    sa.Column('held_since', sa.Float(), nullable=True),
    sa.Column('held_by', sa.String(length=64), nullable=True),
    sa.Column('away_since', sa.Float(), nullable=True),
    sa.Column('refuses', sa.Boolean(), nullable=False),
    sa.Column('text', sa.Text(), nullable=True),
    sa.Column('failures', sa.Integer(), nullable=False),
    sa.Column('probe_at', sa.Float(), nullable=True),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('commitments',
    sa.Column('transaction_uid', sa.String(length=64), nullable=False),
    sa.Column('destination', sa.String(length=32), nullable=False),
    sa.Column('requested_at', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('transaction_uid')
    )
    op.create_table('commitment_reports',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('transaction_uid', sa.String(length=64), nullable=False),
    sa.Column('at', sa.Float(), nullable=False),
    sa.Column('committed', sa.Text(), nullable=False),
    sa.Column('failed', sa.Text(), nullable=False),
    sa.Column('applied_at', sa.Float(), nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_commitment_reports_applied_at', 'commitment_reports', ['applied_at'])
    op.create_table('promises',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('transaction_uid', sa.String(length=64), nullable=False),
    sa.Column('calling_ae_title', sa.String(length=16), nullable=False),
    sa.Column('called_ae_title', sa.String(length=16), nullable=False),
    sa.Column('at', sa.Float(), nullable=False),
    sa.Column('report', sa.Text(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('report_at', sa.Float(), nullable=True),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('transaction_uid', 'calling_ae_title')
    )
    op.create_index('ix_promises_report_at', 'promises', ['report_at'])
    op.add_column('instances', sa.Column('committed_until', sa.Float(), nullable=True))
    op.add_column('deliveries', sa.Column('confirm_at', sa.Float(), nullable=True))
    op.add_column('deliveries', sa.Column('requests', sa.Integer(), server_default='0', nullable=False))
    op.add_column('deliveries', sa.Column('transaction_uid', sa.String(length=64), nullable=True))
    op.create_index('ix_deliveries_confirm_at', 'deliveries', ['confirm_at'])
    op.create_index('ix_deliveries_transaction_uid', 'deliveries', ['transaction_uid'])


def downgrade() -> None:
    op.drop_index('ix_deliveries_transaction_uid', 'deliveries')
    op.drop_index('ix_deliveries_confirm_at', 'deliveries')
    op.drop_column('deliveries', 'transaction_uid')
    op.drop_column('deliveries', 'requests')
    op.drop_column('deliveries', 'confirm_at')
    op.drop_column('instances', 'committed_until')
    op.drop_index('ix_promises_report_at', 'promises')
    op.drop_table('promises')
    op.drop_index('ix_commitment_reports_applied_at', 'commitment_reports')
    op.drop_table('commitment_reports')
    op.drop_table('commitments')
    op.drop_table('destinations')
