"""Which Segue this is.  The only place: pyproject.toml reads it here."""

VERSION = "0.1.0"
