"""The program ``segue``: a table of commands; nouns show, verbs change.

``main`` is a function of arguments that returns an exit code, so that tests call it as users do:
0 done, 1 refused by the kernel or the supervisor, 2 usage, 3 the new version did not start,
128+n ended by signal n.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from segue.cli.telling import tell, tell_lines
from segue.errors import SegueError, VerifierError

# Name, module and one line; a module is imported when its command is used, so that the supervisor
# does not load what only a table of status needs.
COMMANDS: dict[str, str] = {
    "run": "segue.cli.run",
    "restart": "segue.cli.verbs",
    "rollback": "segue.cli.verbs",
    "promote": "segue.cli.verbs",
    "scale": "segue.cli.verbs",
    "stop": "segue.cli.verbs",
    "reexec": "segue.cli.verbs",
    "attach": "segue.cli.attach",
    "detach": "segue.cli.attach",
    "rescue": "segue.cli.attach",
    "shift": "segue.cli.verbs",
    "weights": "segue.cli.verbs",
    "trace": "segue.cli.trace",
    "policy": "segue.cli.policy",
    "status": "segue.cli.status",
    "doctor": "segue.cli.doctor",
    "audit": "segue.cli.audit",
    "adopt": "segue.cli.adopt",
    "probe": "segue.cli.probe",
    "lab": "segue.cli.lab",
}

# Of the verifier's log: the instruction that it refuses, how it came there, and its statistics.
_LAST_LINES = 12


class CommandTable(click.Group):
    """Commands by name, each imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return found if isinstance(found, click.Command) else None


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segue", message="segue %(version)s")
def cli() -> None:
    """Restart a server and lose no connection.

    Start with: segue run --bind 127.0.0.1:8080 -- uvicorn app:app --fd 3
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.  Errors are one sentence on stderr."""
    try:
        code = cli.main(args=args, prog_name="segue", standalone_mode=False)
        sys.stdout.flush()  # so that what cannot be written is an error here, not at exit
    except click.exceptions.NoArgsIsHelpError as shown:
        tell_lines(shown.ctx.get_help() if shown.ctx else "")
        return 2
    except click.ClickException as error:
        tell(f"segue: {error.format_message()}", err=True)
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except SegueError as error:
        tell(f"segue: {error}", err=True)
        if isinstance(error, VerifierError):
            for line in error.log.splitlines()[-_LAST_LINES:]:
                tell(f"  {line}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output, such as head, has seen enough; nor may the flush at exit fail.
        _print_nowhere()
        return 141
    except OSError as error:
        _print_nowhere()
        tell(f"segue: {_where(error)}{error.strerror or error}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _print_nowhere() -> None:
    # What is still in the buffer would fail again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _where(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else "the output could not be written: "


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
