"""What bytes that are not what they claim to be end in: whoever parses what strangers sent catches this, and says so."""

import struct
import zlib

from pydicom.errors import BytesLengthException, InvalidDicomError

MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError,
    NotImplementedError, OSError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)
"""What pydicom and pynetdicom raise for malformed messages, files and values; pydicom converts values on access, so that
some show only there.

Those one would not expect: AssertionError, for pynetdicom checks the lengths of PDU items by `assert`; NotImplementedError,
for pydicom raises it on a value representation that PS3.5 6.2 does not know (`pydicom.values.convert_value`), which any
sender can write; ArithmeticError, for an IS of "inf" or "1e999999" ends in OverflowError; RecursionError, from sequences
nested without end; AttributeError, LookupError and TypeError, from elements of another kind than their attribute has, a
sequence where text belongs. A defect of ours could raise the last three too, so who catches this guards the parsing alone
and answers "unreadable", never with a finding. OSError may also be the machine's doing: where that matters it is caught
before.
"""
