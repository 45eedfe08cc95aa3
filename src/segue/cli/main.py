"""The program ``segue``: a table of commands, one file each.  Nouns show, verbs change.

``main`` takes arguments and returns an exit code, so that tests call it as users do.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from segue.cli.shared.telling import tell, tell_lines
from segue.errors import SegueError, VerifierError
from segue.version import VERSION

# A command's module and its function have its name.  A module is imported when its command is used:
# the supervisor need not load what only a table of status needs.
COMMANDS = (
    "run",
    "restart",
    "rollback",
    "promote",
    "scale",
    "stop",
    "reexec",
    "attach",
    "detach",
    "rescue",
    "shift",
    "weights",
    "trace",
    "policy",
    "status",
    "watch",
    "history",
    "metrics",
    "doctor",
    "audit",
    "adopt",
    "probe",
    "plan",
    "lab",
    "completion",
    "install",
)

# What an exit code says.  The documentation and the man pages have this table too.
EXIT_CODES = {
    "0": "done",
    "1": "refused or failed, also for an address or a name that is in use",
    "2": "the request makes no sense, or not now",
    "3": "the new version did not start",
    "4": "superseded: another restart took the place of this one",
    "128+n": "stopped at once by signal n",
}

# The last lines of the verifier's log name the refused instruction and the path to it, and end with
# statistics.
_LAST_LINES = 12


class _ReaderGoneError(Exception):
    """The reader of our output, such as head, has closed it."""


@contextmanager
def _pipe_errors_passed_on() -> Iterator[None]:
    """Click ends the program with 1 for a BrokenPipeError, so it must not see one."""
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


class CommandTable(click.Group):
    """Commands by name, each imported on use."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """As click has it, for what --help and --version print."""
        with _pipe_errors_passed_on():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """As click has it, for what a command prints."""
        with _pipe_errors_passed_on():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"segue.cli.{cmd_name}"), cmd_name)
        return found if isinstance(found, click.Command) else None


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    VERSION,
    message=f"segue %(version)s (Python {platform.python_version()}, Linux {os.uname().release})",
)
def cli() -> None:
    """Restart a server without losing a connection.

    To start: segue run --bind 127.0.0.1:8080 -- uvicorn app:app --fd 3
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.  An error is one sentence on stderr."""
    try:
        code = cli.main(args=args, prog_name="segue", standalone_mode=False)
        sys.stdout.flush()  # a failed write must be an error here, not at exit
    except click.exceptions.NoArgsIsHelpError as shown:
        tell_lines(shown.ctx.get_help() if shown.ctx else "")
        return 2
    except click.ClickException as error:
        tell(f"segue: {_variable(error)}{error.format_message()}", err=True)
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except SegueError as error:
        tell(f"segue: {error}", err=True)
        if isinstance(error, VerifierError):
            for line in error.log.splitlines()[-_LAST_LINES:]:
                tell(f"  {line}", err=True)
        return error.exit_code
    except (BrokenPipeError, _ReaderGoneError):
        _print_nowhere()  # or the flush at exit would fail
        return 141
    except OSError as error:
        _print_nowhere()
        tell(f"segue: {_where(error)}{error.strerror or error}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _print_nowhere() -> None:
    # The rest of the buffer is written at exit, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _variable(error: click.ClickException) -> str:
    """The variable that a refused value is from: click names only the option."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        if source is ParameterSource.ENVIRONMENT:
            return f"{error.param.envvar} in the environment: "
    return ""


def _where(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else "the output could not be written: "


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
