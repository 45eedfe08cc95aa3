"""``segue attach``: one group of listeners that Segue did not start."""
