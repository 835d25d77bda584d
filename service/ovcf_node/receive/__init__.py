"""Stage 1: C-STORE -> spool -> ledger -> status. A receipt means it is safe."""
