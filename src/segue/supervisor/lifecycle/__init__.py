"""Lifecycles of a worker and of an instance, and what is due next: tables and pure functions."""
