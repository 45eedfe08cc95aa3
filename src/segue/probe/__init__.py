"""What clients see: connections opened at a rate, and the fate of each."""
