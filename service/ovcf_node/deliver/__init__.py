"""Stage 5: encoded results to their destinations."""

from ovcf_node.deliver.backoff import delay
from ovcf_node.deliver.destinations import echo, found, probe, results_at, send
from ovcf_node.deliver.dicom import remote_of
from ovcf_node.deliver.outcome import Outcome

__all__ = ["Outcome", "delay", "echo", "found", "probe", "remote_of", "results_at", "send"]
