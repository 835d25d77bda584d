"""What an association brought, for the audit trail: one message for each study when it ends."""

import threading
from collections import Counter

from ovcf_node.network.application_entity import requestor_of
from ovcf_node.network.messages import Peer
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Study
from ovcf_node.receive.header import Header


class Trail:
    """Counts what is stored by association, study and patient; nothing is kept where nobody wants the trail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._brought: dict[str, dict[tuple[str, str], Counter[str]]] = {}

    def stored(self, peer: Peer, header: Header) -> None:
        """Count one stored instance."""
        if not audit.wanted():
            return
        patient_id = header.patient.split(b"\x1f")[0].decode("utf-8", "replace")
        with self._lock:
            studies = self._brought.setdefault(peer.association, {})
            studies.setdefault((header.study_instance_uid, patient_id), Counter())[header.sop_class_uid] += 1

    def ended(self, peer: Peer, aborted: bool) -> None:
        """Tell what came over an association that has ended."""
        with self._lock:
            studies = self._brought.pop(peer.association, {})
        us = audit.ourselves(Code.DESTINATION, ae_title=peer.called_ae_title)
        for (study_instance_uid, patient_id), counts in studies.items():
            study = Study(study_instance_uid, patient_id, instances=counts)
            audit.transferred(requestor_of(peer, Code.SOURCE), us, study, "association aborted" if aborted else "")
