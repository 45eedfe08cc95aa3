"""``segue run``: one instance from its start to its end, over restarts, crashes and new code."""
