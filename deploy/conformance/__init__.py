"""The DICOM conformance statement: its text, and what reads its tables from the code (`python -m conformance.write`)."""
