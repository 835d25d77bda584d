"""Readings are stored under revision and start of the analysis: no column, but an earlier version would not find them

The tables stay as they are. What changed is what the rows mean: `Revision.reading_key` instead of `result_key`. A program
that knows only the latter would start on this ledger, look for findings of series half done where there are none, and fail
each of them. With a schema of its own it refuses instead (`schema_newer`), as after every other change that it cannot read.
"""

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing to do: a key without a start is still looked up, so that readings of earlier versions are found."""


def downgrade() -> None:
    """Nothing to undo."""
