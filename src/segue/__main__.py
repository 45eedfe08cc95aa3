"""``python -m segue`` is ``segue``."""

from segue.cli.main import entry

if __name__ == "__main__":
    entry()
