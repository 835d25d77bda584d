"""A random secret of this installation: keys the hashes that stand for patients."""

import os
from pathlib import Path

from ovcf_node.storage import atomic

_NAME = "patient-key.secret"


def installation_secret(root: Path) -> bytes:
    """Return the 32 random bytes kept in `root`, made at the first call; concurrent first calls agree.

    Without it a hash of a Patient ID could be reversed by trying all ids. Raises Transient (`disk_full`, `storage`).
    """
    path = root / _NAME
    with atomic.storage_errors():
        if not path.exists():
            atomic.make_folder(root)
            atomic.write(root, _NAME, [os.urandom(32)], replace=False)
        return path.read_bytes()
