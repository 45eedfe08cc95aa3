"""The console that commands draw tables on."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPED = 120  # columns where the output is no terminal, so that nothing of a table is cut off


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich ends the program with 1 when a reader such as head has closed the pipe.

        Raised again, it is ``main``'s, as for every other output: 141.
        """
        raise  # noqa: PLE0704  rich calls this while it handles the BrokenPipeError


def output_console(piped: int | None = _PIPED) -> Console:
    """Draws on stdout, as wide as the terminal; without one, ``piped`` columns (None: 80)."""
    return _Console(width=None if sys.stdout.isatty() else piped)
