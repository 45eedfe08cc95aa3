"""Hosts and the link between them, on one machine: distance, loss, and packets held on purpose."""
