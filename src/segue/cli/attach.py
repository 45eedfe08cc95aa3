"""``segue attach``: keep the connections of a server that Segue did not start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from segue.address import Address
from segue.cli.shared.group import group_options
from segue.engine.generations import TOGETHER
from segue.observe.origin import RULES
from segue.supervisor.question import USUAL

if TYPE_CHECKING:
    from segue.supervisor.attach.settings import AttachSettings


@click.command()
@group_options
@click.option(
    "--generation-by", default="start", metavar="RULE", show_default=True,
    help="How a new generation is told from an old one. Processes in which RULE finds the same"
    f" value are one generation. RULE is one of: {RULES}.",
)  # fmt: skip
@click.option(
    "--together", type=float, default=TOGETHER, metavar="SECONDS", show_default=True,
    help="With --generation-by start or process: servers that start within SECONDS of each other"
    " are one generation.",
)  # fmt: skip
@click.option(
    "--canary", type=float, metavar="PERCENT",
    help="Give each new generation only PERCENT of the new connections until you use segue shift. "
    " [default: by the number of its listeners]",
)  # fmt: skip
@click.option(
    "--ready", type=click.Choice(["accept", "listen"]), default="accept", show_default=True,
    help="When a new listener gets a share. accept: once it accepts a test connection that only"
    " this listener can get. listen: as soon as it listens.",
)  # fmt: skip
@click.option(
    "--ready-http", default="", metavar="PATH",
    help="Also require a good response to GET PATH. https:/PATH asks by TLS, without a look at the"
    " certificate.",
)  # fmt: skip
@click.option(
    "--ready-host", default="", metavar="NAME",
    help="The Host header of what --ready-http asks, and the name in SNI.  [default: the address]",
)  # fmt: skip
@click.option(
    "--ready-header", multiple=True, metavar="'NAME: VALUE'",
    help="Send this header with what --ready-http asks. May be given several times.",
)  # fmt: skip
@click.option(
    "--ready-status", default=USUAL, metavar="STATUSES", show_default=True,
    help="Which statuses are good responses: numbers and ranges, such as 200-399 or 200,204.",
)  # fmt: skip
@click.option(
    "--trace/--no-trace", "traced", default=True,
    help="Learn from a kernel tracepoint when listeners open and close. Without it, or where it is"
    " not permitted, listeners are listed at intervals.  [default: trace]",
)  # fmt: skip
@click.option(
    "--policy", default="", metavar="FILE.py:NAME",
    help="Choose listeners by a policy in Python instead of by share: a file, or a NAME that segue"
    " policy list shows (docs/POLICY.md).",
)  # fmt: skip
@click.option(
    "--object", default="", metavar="FILE",
    help="Choose listeners by a compiled BPF object instead (docs/OBJECT.md).",
)  # fmt: skip
@click.option(
    "--allow", default="", metavar="OPTION,...",
    help="Attach even if the listeners differ in these options. segue audit shows the names.",
)  # fmt: skip
@click.option(
    "--rescue", default="off", metavar="TIME", show_default=True,
    help="Rescue connections from a listener that accepts nothing for TIME, such as 50ms, while"
    " others could accept them: move them to the others (docs/RESCUE.md). off disables this.",
)  # fmt: skip
@click.option(
    "--carry", type=click.Choice(["off", "http"]), default="off", show_default=True,
    help="http: carry kept connections of listeners that have no share any more to those that have"
    " one. You promise that clients speak HTTP/1.x here, and that TLS ends elsewhere. Refused where"
    " it does not work. Needs Linux 6.9 (docs/CARRY.md).",
)  # fmt: skip
@click.option(
    "--idle-grace", type=float, default=1.0, metavar="SECONDS", show_default=True,
    help="With --carry http: a connection is carried when nothing has moved on it for SECONDS.",
)  # fmt: skip
@click.option(
    "--wait/--no-wait", default=False,
    help="Wait until a process listens at ADDRESS, where none does yet.  [default: refuse]",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Attach even if another program steers the group.")
def attach(**given: Any) -> int:
    """Keep the connections of another server through its restarts.

    The server that listens at ADDRESS restarts itself as before. This command stays in the
    foreground until SIGTERM or SIGINT, and follows listeners that open and close. After that, the
    program in the kernel keeps working until segue detach.
    """
    # Imported here: --help needs nothing of the supervisor.
    from segue.supervisor.attach.start import attend  # noqa: PLC0415

    return attend(settings_of(**given))


def settings_of(
    address: str,
    policy: str,
    object: str,  # noqa: A002
    allow: str,
    **given: Any,
) -> AttachSettings:
    """What a command line asks for.  Raises UsageError."""
    from segue.engine.programs import ProgramChoice  # noqa: PLC0415  as in ``attach``
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415

    allowed = tuple(name.strip() for name in allow.split(",") if name.strip())
    choice = ProgramChoice(policy, object)
    return AttachSettings(Address.parse(address), program_choice=choice, allow=allowed, **given)
