"""Find workers that stall or are slow, relieve them, and notice when they accept again."""
