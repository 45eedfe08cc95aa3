"""The files with which a system starts an instance: pure text, made of its settings."""
