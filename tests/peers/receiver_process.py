"""A receiver in a process of its own, to be killed by tests: `receiver_process.py FOLDER PORT`.

Receipts are appended to FOLDER/receipts, one JSON line each, durable before the status goes out.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from ovcf_node.config import Receive, Source
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool


class FileLedger:
    def __init__(self, path: Path):
        self._file = path.open("a")

    def has_digest(self, sop_instance_uid, digest):
        return False

    def record(self, receipt):
        line = {"uid": receipt.sop_instance_uid, "path": receipt.path, "digest": receipt.digest, "size": receipt.size}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def main(folder: Path, port: int) -> None:
    spool = Spool(folder / "spool")
    storing = Storing(spool, FileLedger(folder / "receipts"), min_free_bytes=0, patient_secret=b"secret")
    settings = Receive(host="127.0.0.1", port=port, sources=(Source(ae_title="STORESCU"),))
    receiver = Receiver(settings, storing)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    receiver.start()
    stop.wait()
    receiver.stop(drain_s=5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
