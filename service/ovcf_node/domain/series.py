"""What the node knows of an instance it received."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Receipt:
    """One stored instance, as the ledger keeps it; no patient identity in clear text.

    path         relative to the spool.
    digest       SHA-256 (hex) of the encoded dataset bytes as received.
    patient_key  keyed hash of Patient ID and its issuer: equal for the same patient, meaningless outside this node.
    stat         the sender asked for priority handling.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    path: str
    size: int
    digest: str
    patient_key: str
    modality: str
    received_at: datetime
    calling_ae_title: str
    called_ae_title: str
    association: str
    stat: bool
