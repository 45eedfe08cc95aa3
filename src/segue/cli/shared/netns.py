"""The option that picks the network namespace a command looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def netns_option(command: Command) -> Command:
    """--netns; its value is what ``segue.linux.netns.visited`` takes."""
    return click.option(
        "--netns",
        default="",
        metavar="NAME|PID|PATH",
        help="The network namespace to look at: a name that ip netns knows, a process in it, or a"
        " path.  [default: this one]",
    )(command)
