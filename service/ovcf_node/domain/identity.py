"""Deterministic UIDs of results: the same input read by the same software gives the same objects."""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

_NAMESPACE = uuid.UUID("6f0d3f52-0c1e-5b57-9a5e-6b1f6f1d2a10")


def uid_from(*parts: str) -> str:
    """Return the UUID-derived UID (PS3.5 B.2, `2.25.<decimal>`) that stands for `parts`."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(parts)).int}"


def source_digest(sop_instance_uids: Iterable[str]) -> str:
    """Return the SHA-256 over the sorted SOP Instance UIDs of the instances a result is made of."""
    return hashlib.sha256("\n".join(sorted(sop_instance_uids)).encode()).hexdigest()


@dataclass(frozen=True)
class Dialect:
    """How one destination wants its objects: the SR's SOP class by its tail, and the profile of its content."""

    sr_class: str = "88.34"  # 88.34 Comprehensive 3D | 88.33 Comprehensive | 88.22 Enhanced
    sr_profile: str = "air"  # air | ohif-text

    @property
    def key(self) -> str:
        return f"{self.sr_class}/{self.sr_profile}"


ROLES: tuple[str, ...] = ("seg_vertebrae", "seg_fractures", "summary", "sr")
"""The objects of one reading in the order in which a destination gets them."""


@dataclass(frozen=True)
class ResultIdentity:
    """Everything a result's UIDs are made of."""

    installation: str
    study_instance_uid: str
    series_instance_uid: str
    source_digest: str
    software: str
    bundle_digest: str
    settings_digest: str
    revision: int
    analysis_started_at: str  # of two analyses of the same instances: their objects state their own times
    namespace: str = "node"  # the command line uses its own, so that it never collides with the service

    def sop_instance_uid(self, role: str, dialect: Dialect) -> str:
        # Only the SR differs between dialects; SEG and picture are the same instance everywhere.
        key = dialect.key if role == "sr" else ""
        return uid_from(
            "instance", self.namespace, self.installation, self.series_instance_uid, self.source_digest, self.software,
            self.bundle_digest, self.settings_digest, role, key, str(self.revision),
            self.analysis_started_at,
        )

    def series_uid(self, role: str, dialect: Dialect) -> str:
        # One series per kind of object, kept over revisions, so that a viewer finds the newest beside the old.
        key = dialect.key if role == "sr" else ""
        return uid_from("series", self.namespace, self.installation, self.series_instance_uid, role, key)

    def tracking_uid(self, finding: str) -> str:
        """UID of one tracked finding ("L1", "L1 fracture"): equal in SEG and SR, stable over revisions."""
        return uid_from("tracking", self.namespace, self.installation, self.series_instance_uid, finding)
