"""The results for PACS and viewers: DICOMweb (QIDO-RS, WADO-RS)."""
