"""The demonstration: a node on its embedded defaults, a stand-in PACS, a phantom study over a real association."""

from ovcf_node.demo.journey import run_demo

__all__ = ["run_demo"]
