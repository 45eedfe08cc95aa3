"""The migration mechanism as a TCP listening side that does no I/O: see docs/MODEL.md."""
