"""The mark of a data folder that came out of a backup.

What the node made between the backup and its loss may be at the PACS, and nobody here knows of it. Made again it would have
other times and so other bytes: under the mark it gets other UIDs instead, so that one UID never means two contents.
"""

import uuid
from pathlib import Path

from ovcf_node.storage import atomic

NAME = "restored.id"


def mark(data: Path) -> str:
    """Mark a restored data folder and return the mark, a new one each time. Raises Transient (`disk_full`, `storage`)."""
    identifier = uuid.uuid4().hex
    atomic.write(data, NAME, [identifier.encode()])
    return identifier


def mark_of(data: Path) -> str:
    """Return the mark of a data folder, empty where it never was restored. Raises Transient (`storage`)."""
    with atomic.storage_errors():
        path = data / NAME
        return path.read_text(encoding="ascii").strip() if path.exists() else ""
