"""Run the command line: `python -m ovcf_node`."""

from ovcf_node.cli import app

app()
