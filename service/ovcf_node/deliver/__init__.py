"""Stage 5: encoded results to their destinations."""

from ovcf_node.deliver.backoff import delay
from ovcf_node.deliver.destinations import Outcome, remote_of, send

__all__ = ["Outcome", "delay", "remote_of", "send"]
