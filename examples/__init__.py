"""Servers to try Segue with; README.md has a line on each."""
