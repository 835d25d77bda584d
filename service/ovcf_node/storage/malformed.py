"""What bytes that are not what they claim to be end in: whoever parses what strangers sent catches this, and says so."""

import struct
import zlib

from pydicom.errors import BytesLengthException, InvalidDicomError

MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError,
    NotImplementedError, OSError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)
"""What pydicom and pynetdicom raise for malformed messages, files and values.

pydicom converts values on access, so that some show only there; NotImplementedError is its word for a value representation
that the standard does not know. OSError may also be the machine's doing: where that
matters it is caught before.
"""
