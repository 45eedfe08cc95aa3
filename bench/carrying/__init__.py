"""Carries by chance: servers that say what they were doing, clients that check every byte."""
