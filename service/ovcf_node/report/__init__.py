"""Stage 4: a reading becomes DICOM objects.

    rgb = render_summary(volume, findings, masks)
    for encoded in encode(context, headers, findings, masks, rgb, dialect, volume.sources):
        data = to_bytes(encoded.dataset)

Where to change what: another code `codes`, another measurement `measurements`, another sentence `wording`, another rule
that objects must obey `lint`.
"""

from ovcf_node.report.context import ResultContext, SecondReport
from ovcf_node.report.encode import EncodedObject, encode
from ovcf_node.report.lint import lint
from ovcf_node.report.picture import render_summary
from ovcf_node.report.rejection_note import Rejection, encode_rejection_note
from ovcf_node.report.write import to_bytes

__all__ = [
    "EncodedObject", "Rejection", "ResultContext", "SecondReport", "encode", "encode_rejection_note", "lint",
    "render_summary", "to_bytes",
]
