"""Every way to empty a listener over a grid of loads: measured, on the model, and simulated."""
