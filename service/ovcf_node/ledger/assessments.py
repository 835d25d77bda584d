"""What readers said: one row a finding, written once with the revision that reports it."""

from sqlalchemy import Connection, Engine, insert, select

from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import assessments


def record(connection: Connection, revision_id: int, second: SecondReading) -> None:
    """Store a second reading inside the transaction that opens its revision."""
    for said in second.assessments:
        connection.execute(insert(assessments).values(
            revision_id=revision_id, level=said.level, verdict=said.verdict, corrected_level=said.corrected_level,
            reader=second.reader, reader_name=second.name, at=second.at,
        ))


class Assessments:
    """The `assessments` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def of_revision(self, revision_id: int) -> SecondReading | None:
        """Return the second reading that a revision reports; None for a reading of the node's own."""
        query = select(assessments).where(assessments.c.revision_id == revision_id).order_by(assessments.c.id)
        with reading(self._engine) as connection:
            rows = list(connection.execute(query))
        if not rows:
            return None
        said = tuple(Assessment(row.level, Verdict(row.verdict), row.corrected_level) for row in rows)
        return SecondReading(rows[0].reader, rows[0].reader_name, rows[0].at, said)
