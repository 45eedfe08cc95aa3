"""Nonsense by chance into whatever reads from outside: ``python -m bench fuzz``.

A file here is one reader.  A run of a seed is the same run again; what it finds names its seed.
"""
