"""Bytes on disk, written whole or not at all: received instances, findings, masks, encoded objects."""
