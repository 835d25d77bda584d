"""Pure values and rules: no I/O, no clock, no outside library but numpy for arrays."""
