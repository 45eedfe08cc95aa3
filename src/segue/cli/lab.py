"""``segue lab``: look at the mechanism, as packets and as stories."""

from __future__ import annotations

import difflib
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import click

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.telling import tell, tell_lines
from segue.errors import KernelError, NotSupported, UsageError
from segue.lab import diagram
from segue.lab.replay import replay
from segue.lab.serving import Serving
from segue.lab.sides import ModelSide, kernel, linux_here, unlike_until
from segue.lab.stories import STORIES
from segue.linux.tun import Tun

_DIFFERENT = 1
_WIDE = 180


@click.group()
def lab() -> None:
    """Let the model of the mechanism serve, or compare it with Linux."""


@lab.command()
@click.option("--tun", "name", default="segue0", show_default=True, help="The interface to create.")
@click.option(
    "--network", default="10.99.0.1/24", show_default=True, help="This host's address in it."
)
@click.option("--bind", default="10.99.0.2:80", show_default=True, help="The address of the model.")
@click.option("--pcap", metavar="FILE", help="Record every packet, for Wireshark.")
@click.option(
    "--restart-every", type=float, metavar="S", help="Restart the listener every S seconds."
)
@click.option("--duration", type=float, metavar="S", help="Stop after S seconds.  [default: never]")
def serve(
    name: str, network: str, bind: str, pcap: str | None,
    restart_every: float | None, duration: float | None,
) -> int:  # fmt: skip
    """Let the model serve.  Try curl http://10.99.0.2/1000000 while it restarts.

    SIGUSR1 restarts the listener once.  Needs CAP_NET_ADMIN and /dev/net/tun.
    """
    address = Address.parse(bind)
    if any(value is not None and value <= 0 for value in (restart_every, duration)):
        raise UsageError("--restart-every and --duration must be more than 0 seconds")
    with ExitStack() as stack:
        capture = None
        if pcap is not None:
            try:
                capture = stack.enter_context(open(pcap, "wb"))
            except OSError as error:
                raise KernelError("open", error.errno or 0, f"opening {pcap}") from error
        tun = stack.enter_context(Tun(name))
        tun.configure(network)
        serving = Serving(tun, address, capture)
        until = None if duration is None else time.monotonic() + duration
        signals: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: signals.append(number))
        signal.signal(signal.SIGUSR1, lambda *_: serving.ask_restart())
        tell(f"the model listens at {address} behind {tun.name}")
        serving.run(
            lambda: bool(signals) or (until is not None and time.monotonic() >= until),
            restart_every,
        )
        counts = serving.host.counts
        tell(
            f"{serving.served} answers, {serving.restarts} restarts,"
            f" {counts['TCPMigrateReqSuccess']} migrated, {counts['OutRsts']} reset"
        )
    return 0


@lab.command()
@click.argument("story", required=False)
@click.option("--svg", "picture", metavar="FILE", help="Also write the diagram as a picture.")
def explain(story: str | None, picture: str | None) -> int:
    """Replay a story on Linux and on the model, and draw both as one sequence diagram.

    Without a name, list the stories.  The first difference is marked with "≠", and the exit code is
    then 1.  Linux needs CAP_SYS_ADMIN and /dev/net/tun.  Without them its column says why it is
    empty.
    """
    if story is None:
        tell_lines("\n".join(STORIES))
        return 0
    if story not in STORIES:
        near = difflib.get_close_matches(story, STORIES, 1)
        advice = f"did you mean {near[0]!r}?" if near else "segue lab explain lists them"
        raise UsageError(f"there is no story {story!r}: {advice}")
    if pause := unlike_until(time.monotonic()):
        tell(f"waiting {pause:.0f} s: so soon after boot Linux counts stray ACKs (FACTS, boot)")
    why_not = seen = None
    model = ModelSide()
    try:
        with kernel() as linux:
            seen = replay(STORIES[story], linux)
            model = ModelSide(linux_here(), linux.steps)
    except (KernelError, NotSupported) as error:
        why_not = str(error)
    shown = diagram.diagram(story, seen, replay(STORIES[story], model), why_not)
    # Where nobody looks, there is no width to fold lines to.
    output_console(_WIDE).print(diagram.text(shown))
    if picture is not None:
        try:
            Path(picture).write_text(diagram.svg(shown))
        except OSError as error:
            raise KernelError("open", error.errno or 0, f"writing {picture}") from error
    return 0 if shown.first_difference is None else _DIFFERENT
