"""DICOMweb over our own results: QIDO-RS and WADO-RS (PS3.18), as one mount for the web process.

`access`        who may ask: bearer tokens (`query.tokens`), client certificates
`searching`     QIDO-RS
`retrieving`    WADO-RS: instances, metadata, frames, bulk data (`multipart`, `negotiation`, `pixels`)
`rendering`     WADO-RS: the summary picture
`routes`        which resource is whose; one log line a request, without its URL
"""

from ovcf_node.query.dicomweb.access import VERIFIED_CERTIFICATE
from ovcf_node.query.dicomweb.routes import dicomweb

__all__ = ["VERIFIED_CERTIFICATE", "dicomweb"]
