"""Comparisons and measurements, each one command."""
