"""What a restart will cost by each way: simulated from figures, or from a live group."""
