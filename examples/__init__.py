"""Servers for trying Segue.  README.md has a line about each."""
