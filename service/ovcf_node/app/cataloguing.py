"""Enter results that were stored before the catalogue existed; the query and web processes do it once, at their start.

The Query/Retrieve SCP listens when it is done: "no such study" must be true. The pages cannot wait, a large ledger takes
hours, so that the web process does it beside its work.
"""

import hashlib
import threading
from io import BytesIO

import structlog
from pydicom import dcmread

from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger, Result
from ovcf_node.ledger.catalogue import entry_of
from ovcf_node.storage.results import Results

_LOG = structlog.get_logger("app")
_BATCH = 100
_AGAIN_S = 30.0


def catch_up_beside(ledger: Ledger, results: Results, stop: threading.Event) -> None:
    """Do so in a thread of its own, until it is done or `stop` is set; a busy ledger is tried again."""
    def run() -> None:
        while not stop.is_set():
            try:
                catch_up(ledger, results, stop)
                return
            except OvcfError as error:
                _LOG.error("catalogue_behind", code=error.code)
                stop.wait(_AGAIN_S)

    threading.Thread(target=run, name="catalogue", daemon=True).start()


def catch_up(ledger: Ledger, results: Results, stop: threading.Event) -> int:
    """Enter every stored result that the catalogue lacks and return how many; what is damaged is logged and left."""
    entered, damaged, last = 0, 0, None
    while batch := ledger.catalogue.missing(last, _BATCH):
        for result in batch:
            if stop.is_set():
                return entered
            if _enter(ledger, results, result):
                entered += 1
            else:
                damaged += 1
        last = batch[-1]
        _LOG.info("catalogue_caught_up", entered=entered, unreadable=damaged)
    return entered


def _enter(ledger: Ledger, results: Results, result: Result) -> bool:
    try:
        data = (results.root / result.path).read_bytes()
    except OSError:
        return False
    if hashlib.sha256(data).hexdigest() != result.sha256:  # reading damaged bytes can end in any error
        return False
    ledger.catalogue.add_missing(entry_of(dcmread(BytesIO(data))))
    return True
