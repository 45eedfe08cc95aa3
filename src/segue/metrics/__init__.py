"""Metrics of an instance, for Prometheus: made of its status by a process beside it."""
