"""Fixtures of the tests of DICOMweb."""

from served_results import client, objects, served, template

__all__ = ["client", "objects", "served", "template"]
