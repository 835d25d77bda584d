"""Enter results that were stored before the catalogue existed; the query and web processes do it once, at their start."""

from io import BytesIO

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ovcf_node.ledger import Ledger, Result
from ovcf_node.ledger.catalogue import entry_of
from ovcf_node.storage.results import Results

_LOG = structlog.get_logger("app")
_BATCH = 100


def catch_up(ledger: Ledger, results: Results) -> int:
    """Enter every stored result that the catalogue lacks and return how many; what cannot be read is logged and left."""
    entered, damaged, last = 0, 0, None
    while batch := ledger.catalogue.missing(last, _BATCH):
        for result in batch:
            if _enter(ledger, results, result):
                entered += 1
            else:
                damaged += 1
        last = batch[-1]
        _LOG.info("catalogue_caught_up", entered=entered, unreadable=damaged)
    return entered


def _enter(ledger: Ledger, results: Results, result: Result) -> bool:
    try:
        dataset = dcmread(BytesIO((results.root / result.path).read_bytes()))
    except (OSError, InvalidDicomError, EOFError):
        return False
    ledger.catalogue.add_missing(entry_of(dataset))
    return True
