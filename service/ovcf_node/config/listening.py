"""The open ports of a listener in words: for a person who enters them at the other side."""

from ovcf_node.config.node import Receive
from ovcf_node.config.query import Query


def ports_in_words(section: Receive | Query) -> str:
    """Return every port that is open, and how it speaks: "11112 (plain) and 2762 (TLS)"."""
    ports = [f"{section.port} (plain)"] if section.plain else []
    ports += [f"{section.tls_port} (TLS)"] if section.tls_port else []
    return " and ".join(ports)
