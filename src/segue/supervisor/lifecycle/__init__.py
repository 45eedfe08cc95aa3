"""The lifecycles of workers and instances, and the next steps: tables and pure functions."""
