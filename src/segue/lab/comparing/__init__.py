"""One restart by each way, on Linux and on the model, and what became of every connection."""
