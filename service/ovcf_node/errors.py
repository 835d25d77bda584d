"""What can go wrong. Every error answers two questions: whose fault is it, and can a retry help?"""


class OvcfError(Exception):
    """The root of every error this node raises on purpose.

    `code` is stable and safe to log; `text` is for people. Neither ever holds patient identity.
    """

    def __init__(self, code: str, text: str = ""):
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.text = text


class Transient(OvcfError):
    """Nobody's fault or the peer's; the same call may succeed later (network down, disk full, peer busy)."""


MACHINE_SHORT = frozenset({"disk_full", "ledger_unavailable"})
"""Codes of errors that say nothing about the work at hand: it is tried again when the machine can, and never counted."""


class Permanent(OvcfError):
    """The same call will fail again: wrong input, wrong configuration, or a defect."""


class Refused(OvcfError):
    """An answer to a DICOM peer: the DIMSE status says whose fault it is (PS3.7 Annex C)."""

    def __init__(self, status: int, code: str, text: str = ""):
        super().__init__(code, text)
        self.status = status
