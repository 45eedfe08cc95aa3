"""Workers that stall or are slow: noticed, relieved, and known to be awake again."""
