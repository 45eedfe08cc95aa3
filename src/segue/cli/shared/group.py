"""A group of listeners that Segue did not start: the options that name it and its pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from segue.engine.pinning import USUAL

Command = TypeVar("Command", bound=Callable[..., Any])


def group_options(command: Command) -> Command:
    """ADDRESS, --name, --netns and --bpffs."""
    for option in (
        click.option(
            "--bpffs", default=USUAL, envvar="SEGUE_BPFFS", metavar="PATH", show_default=True,
            help="The bpf file system in which to pin the program and its maps.",
        ),
        click.option(
            "--netns", default="", metavar="NAME|PID|PATH",
            help="The network namespace of the listeners: a name that ip netns knows, a process in"
            " it, or a path.  [default: this one]",
        ),
        click.option(
            "--name", default="", envvar="SEGUE_NAME",
            help="The name of this instance.  [default: the address]",
        ),
        click.argument("address"),
    ):  # fmt: skip
        command = option(command)
    return command
