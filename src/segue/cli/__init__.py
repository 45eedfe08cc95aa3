"""The command line: nouns show, verbs change; one file a command."""
