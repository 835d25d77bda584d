"""The durable truth: what arrived, what was decided, what was made, what was delivered.

The only importer of SQLAlchemy. One class a table, each with the writers that `schema` names.
"""

from sqlalchemy import Engine

from ovcf_node.ledger.assessments import Assessments
from ovcf_node.ledger.catalogue import Catalogue
from ovcf_node.ledger.commitments import CommitmentReport, Commitments
from ovcf_node.ledger.database import connect, copy_sqlite, is_there, migrate, probe
from ovcf_node.ledger.deliveries import Deliveries, Delivery, Result
from ovcf_node.ledger.destinations import Destinations, DestinationStanding
from ovcf_node.ledger.events import Event, Events
from ovcf_node.ledger.figures import Figures
from ovcf_node.ledger.holds import Hold, Holds
from ovcf_node.ledger.instances import Arrival, Instances, StoredInstance
from ovcf_node.ledger.leases import PROCESS, Leases
from ovcf_node.ledger.overview import DestinationHealth, Overview
from ovcf_node.ledger.promises import Promise, Promises
from ovcf_node.ledger.rejections import Rejections
from ovcf_node.ledger.retention import Retention
from ovcf_node.ledger.revision import Revision, StaleAttempt
from ovcf_node.ledger.revisions import Revisions
from ovcf_node.ledger.withdrawals import Withdrawals, Withdrawn

__all__ = [
    "PROCESS", "Arrival", "Catalogue", "CommitmentReport", "Deliveries", "Delivery", "DestinationHealth",
    "DestinationStanding", "Event", "Figures", "Hold", "Instances", "Ledger", "Promise", "Result", "Revision",
    "StaleAttempt", "StoredInstance", "Withdrawn", "copy_sqlite", "is_there", "migrate", "probe",
]


class Ledger:
    """All tables behind one connection pool."""

    def __init__(self, url: str):
        self._engine: Engine = connect(url)
        self.instances = Instances(self._engine)
        self.revisions = Revisions(self._engine)
        self.deliveries = Deliveries(self._engine)
        self.destinations = Destinations(self._engine)
        self.commitments = Commitments(self._engine)
        self.promises = Promises(self._engine)
        self.assessments = Assessments(self._engine)
        self.catalogue = Catalogue(self._engine)
        self.holds = Holds(self._engine)
        self.withdrawals = Withdrawals(self._engine)
        self.rejections = Rejections(self._engine)
        self.events = Events(self._engine)
        self.leases = Leases(self._engine)
        self.overview = Overview(self._engine)
        self.figures = Figures(self._engine)
        self.retention = Retention(self._engine)

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()
