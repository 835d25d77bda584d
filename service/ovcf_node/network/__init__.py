"""Application entity and associations; the only importer of pynetdicom. Other packages see plain values."""
