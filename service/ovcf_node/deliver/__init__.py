"""Stage 5: encoded results to their destinations."""

from ovcf_node.deliver.backoff import delay
from ovcf_node.deliver.destinations import always, echo, results_at, send
from ovcf_node.deliver.outcome import Outcome

__all__ = ["Outcome", "always", "delay", "echo", "results_at", "send"]
