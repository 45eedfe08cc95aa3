"""One live group, looked at: queues, owners, counters."""
