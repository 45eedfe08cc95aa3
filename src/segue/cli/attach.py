"""``segue attach`` and ``segue detach``: a group of listeners that Segue did not start."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from segue.address import Address
from segue.cli.telling import tell
from segue.engine.generations import TOGETHER
from segue.engine.pinning import USUAL
from segue.errors import SegueError, UsageError
from segue.observe.origin import RULES
from segue.observe.stall import PATIENCE

if TYPE_CHECKING:
    from segue.supervisor.control.requests import Rescue

Command = TypeVar("Command", bound=Callable[..., Any])


def group_options(command: Command) -> Command:
    """ADDRESS and what else names the group and its pins."""
    for option in (
        click.option(
            "--bpffs", default=USUAL, envvar="SEGUE_BPFFS", metavar="PATH", show_default=True,
            help="The bpf file system to pin in.",
        ),
        click.option(
            "--netns", default="", metavar="NAME|PID|PATH",
            help="The network namespace it is in.  [default: this one]",
        ),
        click.option(
            "--name", default="", envvar="SEGUE_NAME",
            help="What this instance is called.  [default: the address]",
        ),
        click.argument("address"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@group_options
@click.option(
    "--generation-by", default="start", metavar="RULE", show_default=True,
    help=f"What tells a new version's listeners from the old one's: {RULES}.",
)  # fmt: skip
@click.option(
    "--together", type=float, default=TOGETHER, metavar="SECONDS", show_default=True,
    help="By start: servers that start within this of one another are one generation.",
)  # fmt: skip
@click.option(
    "--canary", type=float, metavar="PERCENT",
    help="What each new generation gets until it is shifted.  [default: newest first]",
)  # fmt: skip
@click.option(
    "--ready", type=click.Choice(["accept", "listen"]), default="accept", show_default=True,
    help="What a new listener must do before it gets a share: accept a test connection, or only"
    " listen.",
)  # fmt: skip
@click.option("--ready-http", default="", help="A path that it must also answer with 2xx.")
@click.option(
    "--trace/--no-trace", "traced", default=True,
    help="Use a tracepoint to notice listeners that come and go, if that is allowed; else list"
    " them at intervals.  [default: trace]",
)  # fmt: skip
@click.option(
    "--policy", default="", metavar="FILE.py:NAME",
    help="Use this policy in Python, or one of the library, instead of the table of shares"
    " (docs/POLICY.md).",
)  # fmt: skip
@click.option(
    "--object", default="", metavar="FILE",
    help="Use this compiled BPF object instead (docs/OBJECT.md).",
)  # fmt: skip
@click.option(
    "--allow", default="", metavar="OPTION,...",
    help="Attach though the listeners differ in these, as segue audit names them.",
)  # fmt: skip
@click.option(
    "--rescue", default="off", metavar="TIME", show_default=True,
    help="How long a listener may accept nothing while others could, until what waits behind it is"
    " moved to them and nothing new is sent to it (docs/RESCUE.md).",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Attach though another program steers the group.")
def attach(address: str, policy: str, object: str, allow: str, **given: Any) -> int:  # noqa: A002
    """Keep connections through the restarts of the servers that listen at ADDRESS.

    Stays in the foreground and follows listeners that come and go, until SIGTERM or SIGINT.  The
    program in the kernel stays when this command ends.
    """
    # Imported here: --help needs nothing of the supervisor.
    from segue.engine.programs import ProgramChoice  # noqa: PLC0415
    from segue.supervisor.attach.follower import attend  # noqa: PLC0415
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415

    allowed = tuple(name.strip() for name in allow.split(",") if name.strip())
    return attend(
        AttachSettings(
            Address.parse(address),
            program_choice=ProgramChoice(policy, object),
            allow=allowed,
            **given,
        )
    )


@click.command()
@group_options
@click.option(
    "--after", default=PATIENCE, metavar="TIME", show_default=True,
    help="How long a listener may accept nothing while others could, until it counts as stalled.",
)  # fmt: skip
def rescue(address: str, after: str, **given: Any) -> int:
    """Move connections that wait at a stalled listener of ADDRESS to the other listeners.

    Stays in the foreground until SIGTERM or SIGINT, and leaves the listeners as it found them.
    If segue attach runs there, that instance does the work.
    """
    from segue.supervisor.attach.follower import attend  # noqa: PLC0415
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415
    from segue.supervisor.control.paths import Paths, instances  # noqa: PLC0415
    from segue.supervisor.control.requests import Rescue  # noqa: PLC0415

    settings = AttachSettings(Address.parse(address), rescue=after, passing=True, **given)
    if not settings.rescue_after:
        raise UsageError(
            "--after must be a time such as 50ms or 1s: with off there would be nothing to do"
        )
    if settings.instance_name in instances():
        request = Rescue(after, str(settings.address))
        return _ask_for_rescue(
            settings.instance_name, Paths.of(settings.instance_name).control, request
        )
    return attend(settings)


def _ask_for_rescue(name: str, control: str, request: Rescue) -> int:
    """Have the instance that runs rescue until we are told to end; our hanging up ends it."""
    from segue.supervisor.control.client import ask, status  # noqa: PLC0415

    if status(control).command:
        raise UsageError(
            f"{request.address} is served by segue run ({name}): give --rescue to that one"
        )
    # SIGINT too: a shell that starts a job in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        answer = ask(control, request, lambda text: tell(f"segue: {text}", err=True))
    except KeyboardInterrupt:
        return 0
    raise SegueError(str(answer.get("error", f"{name} has ended, and the rescue with it")))


@click.command()
@group_options
def detach(address: str, **given: Any) -> int:
    """Leave the listeners at ADDRESS as segue attach found them: no program, nothing pinned."""
    from segue.supervisor.attach.follower import detach as release  # noqa: PLC0415
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415
    from segue.supervisor.control.client import ask  # noqa: PLC0415
    from segue.supervisor.control.paths import Paths, instances  # noqa: PLC0415
    from segue.supervisor.control.requests import Detach  # noqa: PLC0415

    settings = AttachSettings(Address.parse(address), **given)
    name = settings.instance_name
    if name in instances():
        answer = ask(Paths.of(name).control, Detach(str(settings.address)), tell)
        if answer.get("error"):
            raise SegueError(str(answer["error"]))
    elif not release(settings):
        raise SegueError(
            f"nothing of Segue's is attached at {settings.address} under the name {name}"
        )
    tell(f"{settings.address} is the kernel's own again")
    return 0
