"""``segue lab``: look at the mechanism, as packets and as stories."""

from __future__ import annotations

import difflib
import os
import signal
import textwrap
import time
from contextlib import ExitStack
from dataclasses import asdict
from math import inf
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from segue.address import Address
from segue.cli.shared.console import output_console
from segue.cli.shared.progress import progress
from segue.cli.shared.telling import tell, tell_json, tell_lines, write_page
from segue.errors import KernelError, NotSupported, UsageError
from segue.lab.comparing import table as comparing
from segue.lab.comparing.comparison import compare as compared_by
from segue.lab.comparing.settings import Settings
from segue.lab.explaining.frames import Film, Other, film, told
from segue.lab.explaining.html import html
from segue.lab.explaining.svg import svg
from segue.lab.explaining.text import text
from segue.lab.packetdrill import report, telling
from segue.lab.packetdrill.parser import parse
from segue.lab.replay import timings
from segue.lab.serving import Serving
from segue.lab.sides import kernel, linux_here, unlike_until
from segue.lab.stories import STORIES, prose
from segue.lab.verbs import NOTES, SHAPES, check
from segue.lab.ways.known import WAYS, chosen
from segue.linux.tun import Tun
from segue.model.profile import LINUX, SERIES
from segue.visible import visible

_DIFFERENT = 1
_JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
_WIDE = 180  # a script's lines are not to be folded where nobody looks


@click.group()
def lab() -> None:
    """Compare the model with Linux, and the ways to restart."""


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
    if any(value is not None and not 0 < value < inf for value in (restart_every, duration)):
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
@click.option("--file", "own", metavar="FILE", help="A story of your own; --verbs says how.")
@click.option(
    "--profile",
    type=click.Choice(["linux", "series"]),
    default="linux",
    show_default=True,
    help="What the model is: today's kernel, or the eight patches of 2020.",
)
@click.option("--svg", "picture", metavar="FILE", help="Also write it as a picture.")
@click.option("--html", "page", metavar="FILE", help="Also write it as a page that plays it.")
@click.option("--verbs", is_flag=True, help="Say what a story may consist of, and end.")
@_JSON
def explain(
    story: str | None, own: str | None, profile: str, picture: str | None, page: str | None,
    *, verbs: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show what the model does in a story, step by step, and whether Linux does the same.

    Without a name, list the stories.  There is a lane for each client and each listener; what waits
    where is told whenever it changes, and what moves with the reason and the row of docs/SERIES.md.
    Linux needs CAP_SYS_ADMIN and /dev/net/tun; without them it is said why it was not asked.  A
    step that Linux tells otherwise is marked "≠", and the exit code is then 1; but not with
    --profile series, where that is expected.
    """
    if verbs:
        _list_verbs()
        return 0
    if story is None and own is None:
        if as_json:
            tell_json(list(STORIES), indent=2)
            return 0
        tell_lines("\n".join(STORIES))
        return 0
    title, steps = _story(story, own)
    with progress(f"telling {title}"):
        shown = _film(title, steps, profile)
    if as_json:
        tell_json(asdict(shown), indent=2)
    else:
        console = output_console()
        for line in text(shown, console.width):
            console.print(Text(visible(line.said), line.style), soft_wrap=True)
    for path, made in ((picture, svg), (page, html)):
        if path is not None:
            write_page(path, made(shown))
    return _DIFFERENT if shown.differences and profile == LINUX.name else 0


def _list_verbs() -> None:
    console = output_console()
    for verb, (arguments, meaning) in SHAPES.items():
        lead = f"{verb} {arguments}".ljust(26)
        for line in textwrap.wrap(
            meaning, console.width, initial_indent=f"{lead} ", subsequent_indent=" " * 27
        ):
            tell_lines(line)
    tell_lines("\n".join(textwrap.wrap(NOTES, console.width)))


def _story(name: str | None, own: str | None) -> tuple[str, str]:
    """The title and the steps; raises UsageError where there are none, or cannot be."""
    if own is not None:
        if name is not None:
            raise UsageError("a story by name and --file at once: leave one of them out")
        try:
            steps = Path(own).read_text("utf-8")
        except OSError as error:
            raise KernelError("open", error.errno or 0, f"reading {own}") from error
        except UnicodeDecodeError:
            raise UsageError(f"{own} is no text in UTF-8") from None
        try:
            check(steps)
        except UsageError as error:
            raise UsageError(f"{own}: {error}") from None
        return Path(own).name, steps
    assert name is not None
    if name not in STORIES:
        near = difflib.get_close_matches(name, STORIES, 1)
        advice = f"did you mean {near[0]!r}?" if near else "segue lab explain lists them"
        raise UsageError(f"there is no story {name!r}: {advice}")
    return name, STORIES[name]


def _film(title: str, steps: str, profile: str) -> Film:
    """Told by Linux, where that can be, and by the model."""
    if pause := unlike_until(time.monotonic()):
        tell(f"waiting {pause:.0f} s: so soon after boot Linux counts stray ACKs (FACTS, boot)")
    lived = SERIES if profile == SERIES.name else linux_here()
    try:
        with kernel() as linux:
            seen = tuple(one for _, one in told(steps, linux))
            name, took = f"Linux {os.uname().release}", tuple(linux.steps)
            other = Other(name, seen, took, linux.began, timings())
            return film(title, steps, prose(steps), lived, other)
    except (KernelError, NotSupported) as error:
        return film(title, steps, prose(steps), lived, why_not=str(error))


@lab.command()
@click.argument("file", metavar="FILE.pkt")
@click.option("--ipv6", is_flag=True, help="Over IPv6, where the script does not say otherwise.")
@click.option(
    "-D",
    "--define",
    "defined",
    multiple=True,
    metavar="NAME=VALUE",
    help="Let a word stand for it.",
)
@click.option(
    "--only", type=click.Choice(["linux", "model"]), help="Tell it to one side.  [default: both]"
)
@_JSON
def run(file: str, defined: tuple[str, ...], only: str | None, *, ipv6: bool, as_json: bool) -> int:
    """Tell a script in packetdrill's language to Linux and to the model, side by side.

    "=" is as the script says, and "≠" is the first thing that is not.  The exit code is 1 if a side
    that was told does not do what the script says.  Linux needs CAP_SYS_ADMIN and /dev/net/tun.
    """
    given = dict(one.partition("=")[::2] for one in defined)
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KernelError("open", error.errno or 0, f"opening {file}") from error
    version = 6 if ipv6 else 4
    script = parse(text, file, {**telling.defined(version), **given})
    terms = telling.terms(script, version)
    linux = model = None
    why_not = "only the model was asked for"
    if only != "model":
        try:
            with progress(f"telling {file} to Linux"):
                linux = telling.to_linux(script, terms)
        except (KernelError, NotSupported) as error:
            why_not = str(error)
    if only != "linux":
        model = telling.to_model(script, terms)
    told = [one for one in (linux, model) if one is not None]
    code = 0 if told and all(one.passed for one in told) else _DIFFERENT
    said = {
        "linux": report.summary(script, "Linux", linux, why_not),
        "model": report.summary(script, "the model", model, "only Linux was asked for"),
    }
    if as_json:
        keys = ("line", "text", "linux", "model")
        rows = [dict(zip(keys, row, strict=True)) for row in report.rows(script, linux, model)]
        tell_json({"events": rows, **said}, indent=2)
        return code
    table = Table(box=None, pad_edge=False)
    table.add_column("line", justify="right")
    table.add_column(script.file)
    table.add_column("Linux")
    table.add_column("model")
    for row in report.rows(script, linux, model):
        table.add_row(*(Text(cell) for cell in row))
    console = output_console(_WIDE)
    console.print(table)
    tell_lines("\n".join(said.values()))
    return code


@lab.command()
@click.option("--ways", metavar="NAME,...", default="", help=f"Only these, of {', '.join(WAYS)}.")
@click.option("--rate", default=400.0, show_default=True, help="New connections a second.")
@click.option("--rtt", default=40.0, show_default=True, metavar="MS", help="The round trip.")
@click.option("--workers", default=2, show_default=True, help="Of each generation.")
@click.option("--backlog", default=128, show_default=True, help="Of each listener.")
@click.option("--kept", default=20, show_default=True, help="Clients that keep a connection.")
@click.option(
    "--busy", default=0.7, show_default=True, help="How much of its time a worker needs to accept."
)
@click.option("--repetitions", default=3, show_default=True, help="Restarts by each way.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same clients.")
@click.option("--html", "file", metavar="FILE", help="Also write it as a page with a picture.")
@_JSON
def compare(
    ways: str, rate: float, rtt: float, workers: int, backlog: int, kept: int, busy: float,
    repetitions: int, seed: int, file: str | None, *, as_json: bool,
) -> int:  # fmt: skip
    """Restart a server by each way to empty a listener, and count what its clients lose.

    Each restart is measured on Linux, over a link that takes half the round trip each way, and
    predicted by the model.  "again" is how many kept connections had to be made again; "gone" is
    when no old worker has a listener any more, "old" when the last answer by one was sent;
    the latencies are compared with the same clients' without a restart.  docs/COMPARE.md says more.
    Linux needs CAP_SYS_ADMIN and /dev/net/tun.  Some seconds for each restart.
    """
    if not 1 <= repetitions <= 1000:
        raise UsageError(f"--repetitions must be from 1 to 1000 (got {repetitions})")
    names = [name.strip() for name in ways.split(",") if name.strip()]
    given = Settings(rate, rtt / 1000, workers, backlog, kept, busy, seed)
    which = chosen(names)
    with progress(f"comparing {len(which)} ways, {repetitions} times"):
        found = compared_by(given, which, repetitions)
    if file is not None:
        write_page(file, comparing.page(given, repetitions, found))
    if as_json:
        tell_json(comparing.plain(given, found), indent=2)
        return 0
    tell(comparing.load(given, repetitions))
    console = output_console()
    for heads, rows, left in (
        (comparing.HEADS, comparing.rows(found), 2),
        (comparing.NEEDS, comparing.needs(found), len(comparing.NEEDS)),
    ):
        drawn = Table(box=None, pad_edge=False)
        for number, head in enumerate(heads):
            drawn.add_column(head, justify="left" if number < left else "right")
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))
        console.print(drawn)
        console.print()
    for note in comparing.notes(found):
        tell(note)
    return 0
