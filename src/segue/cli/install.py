"""``segue install``: the files with which systemd runs an instance."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import click

from segue.cli.attach import attach as attach_command
from segue.cli.attach import settings_of
from segue.cli.run import read
from segue.cli.run import run as run_command
from segue.cli.shared.telling import tell, tell_lines
from segue.errors import SegueError, UsageError
from segue.install import attach_unit
from segue.install.units import System, Written, files
from segue.linux import openat, sysctl
from segue.supervisor.source import started_in

_NEWEST = 257  # what is assumed where systemctl does not say
_PATIENCE = 5.0  # seconds for systemctl to tell its version


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False})
@click.option("--write", is_flag=True, help="Write the files.  Otherwise they are printed.")
@click.option(
    "--socket",
    "sockets",
    is_flag=True,
    help="Have systemd open the listeners: they outlive the supervisor and all workers.",
)
@click.option("--root", default="/", metavar="DIR", help="Write below DIR.  [default: /]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="run|attach ARGUMENTS...")
def install(arguments: tuple[str, ...], *, write: bool, sockets: bool, root: str) -> int:
    """Print the systemd units for a segue run or segue attach.

    Write it as usual behind this command: segue install run --bind :80 -- uvicorn app:app --fd 3
    """
    directory = started_in(os.environ)
    match arguments[:1]:
        case ("run",):
            made = _for_run(arguments[1:], directory, sockets=sockets)
        case ("attach",) if sockets:
            raise click.UsageError(
                "--socket does not go with attach: the listeners are the server's"
            )
        case ("attach",):
            made = _for_attach(arguments[1:], directory)
        case _:
            raise click.UsageError("write the whole command line behind it: segue install run ...")
    if not write:
        for one in made:
            tell_lines(f"# {one.path}: {one.why}\n{one.text}")
        return 0
    for one in made:
        _write(root, one)
    unit = os.path.basename(made[0].path)
    tell(f"now: systemctl daemon-reload && systemctl enable --now {unit}")
    return 0


def _for_run(arguments: tuple[str, ...], directory: str, *, sockets: bool) -> list[Written]:
    with run_command.make_context("segue run", list(arguments)) as context:
        given = dict(context.params)
        config = given.pop("config")
        given.pop("check")
        settings, _ = read(config, given, directory)
    argv = [*_program(), "run"]
    if not settings.name:
        argv += ["--name", settings.instance_name]
    command = given.get("command", ())
    options = list(arguments[: len(arguments) - len(command)])
    argv += options[:-1] if options[-1:] == ["--"] else options
    if command:  # else it is in segue.toml
        argv += ["--", _found(command[0], directory), *command[1:]]
    return files(settings, argv, _system(directory), sockets=sockets)


def _for_attach(arguments: tuple[str, ...], directory: str) -> list[Written]:
    with attach_command.make_context("segue attach", list(arguments)) as context:
        settings = settings_of(**context.params)
    # At boot the server may start later.
    argv = [*_program(), "attach", *(() if settings.wait else ("--wait",)), *arguments]
    return attach_unit.files(settings, argv, _system(directory))


def _system(directory: str) -> System:
    return System(_systemd(), sysctl.somaxconn(), directory)


def _write(root: str, one: Written) -> None:
    """Raises SegueError if there is another file of this name, or it cannot be written."""
    path = os.path.join(root, one.path.lstrip("/"))
    try:
        with openat.Directory.make(os.path.dirname(path), 0o755) as here:
            name = os.path.basename(path)
            made = here.file(f".{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with open(made, "w", encoding="utf-8") as file:
                file.write(one.text)
            here.rename(f".{name}.new", name)
    except OSError as error:
        raise SegueError(f"{path} cannot be written: {error.strerror}") from None
    tell(f"{path}: {one.why}")


def _program() -> list[str]:
    """What starts segue by paths: systemd searches no PATH of a shell."""
    named = os.path.abspath(sys.argv[0])
    if os.path.basename(named) == "segue" and os.access(named, os.X_OK):
        return [named]
    return [sys.executable, "-m", "segue"]


def _found(name: str, directory: str) -> str:
    """The program's path, as the shell of now finds it.  Raises UsageError if it does not."""
    if "/" in name:
        return os.path.join(directory, name)
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"there is no program {name!r} to run; check the spelling and PATH")
    return found


def _systemd() -> int:
    try:
        said = subprocess.run(
            ["systemctl", "--version"], check=False, capture_output=True, text=True,
            timeout=_PATIENCE,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return _NEWEST
    number = re.match(r"systemd (\d+)", said)
    return int(number[1]) if number else _NEWEST
