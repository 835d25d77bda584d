"""What this implementation calls itself in associations and files (PS3.7 D.3.3.2, PS3.10 7.1)."""

from ovcf_node import __version__
from ovcf_node.domain.identity import uid_from

IMPLEMENTATION_CLASS_UID = uid_from("implementation class", "ovcf-node")
IMPLEMENTATION_VERSION_NAME = f"OVCF_NODE_{__version__}"[:16]
