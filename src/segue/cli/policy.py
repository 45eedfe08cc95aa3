"""``segue policy``: policies in Python, looked at and tried without touching a listener."""

from __future__ import annotations

import re
from typing import Any

import click

from segue.cli.telling import tell, tell_lines
from segue.errors import UsageError

_NUMBER = r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})"
_PAIR = re.compile(f"{_NUMBER}={_NUMBER}")


@click.group()
def policy() -> None:
    """Check, show and try policies, and set the maps of one that runs.

    A POLICY is FILE.py:NAME or a name of the library.
    """


@policy.command("list")
def list_() -> int:
    """The library, a line each."""
    from segue.policy.library import LIBRARY  # noqa: PLC0415  --help needs no compiler

    for name, one in LIBRARY.items():
        first = (one.__doc__ or "").strip().splitlines()[0]
        tell(f"{name:<22} {first}")
    return 0


@policy.command()
@click.argument("policy")
def check(policy: str) -> int:
    """Compile it and have the kernel's verifier read it; changes nothing."""
    from segue.engine.loaded import load  # noqa: PLC0415
    from segue.engine.policies import compiled  # noqa: PLC0415

    made = compiled(policy)
    length = len(made.listing)
    tell(f"{policy} compiles: {length} instructions, at most {made.worst_case} in one run")
    for one in made.maps:
        tell(f"  map {one.name}: {one.kind.value}, {one.size} entries")
    with load(made) as loaded:
        verified = loaded.program.info().verified
    seen = f", having looked at {verified} instructions" if verified else ""
    tell(f"the kernel's verifier takes it{seen}")
    return 0


@policy.command()
@click.argument("policy")
def show(policy: str) -> int:
    """Its source and its program side by side, in the verifier's notation."""
    from segue.engine.policies import compiled  # noqa: PLC0415
    from segue.policy.explain import listing  # noqa: PLC0415

    tell_lines(listing(compiled(policy)))
    return 0


@policy.command("try")
@click.argument("policy")
@click.option("--remote", default="192.0.2.7:40000", show_default=True, help="The client.")
@click.option("--local", default="192.0.2.1:443", show_default=True, help="The listener's end.")
@click.option(
    "--migrating",
    type=click.Choice(["no", "request", "child", "fastopen"]),
    default="no",
    show_default=True,
    help="What of the connection is there already.",
)
@click.option("--hash", "number", type=int, default=0, show_default=True, help="The kernel's hash.")
@click.option("--cookie", type=int, default=0, help="Of the listener it comes by.")
@click.option(
    "--weights",
    default="0=1,1=1",
    show_default=True,
    metavar="SLOT=WEIGHT,...",
    help="The listeners there are, and their parts of the table.",
)
def try_(policy: str, weights: str, **given: Any) -> int:
    """Ask it about one connection, in Python and in the interpreter of its program.

    Nothing is asked of the kernel, and no permission is needed.  Maps are as the policy's file
    leaves them.
    """
    from segue.engine.policies import compiled  # noqa: PLC0415
    from segue.policy.dry_run import dry_run, example_connection, parse_weights  # noqa: PLC0415

    decision, steps = dry_run(compiled(policy), example_connection(**given), parse_weights(weights))
    tell(f"{decision} ({steps} instructions)")
    return 0


@policy.command("map")
@click.option("--name", default="", envvar="SEGUE_NAME", help="Which instance.")
@click.option("--control", default="", metavar="SOCKET", help="Its control socket.")
@click.option("--delete", multiple=True, metavar="KEY", help="Take this key out.")
@click.argument("map_name", metavar="[MAP]", default="")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
def map_(name: str, control: str, delete: tuple[str, ...], map_name: str, pairs: tuple[str]) -> int:
    """Show the maps of a running policy, or one of them, and change it live.

    Under segue run and segue attach; numbers are decimal or 0x.
    """
    from segue.cli.verbs import request  # noqa: PLC0415  --help needs nothing of it
    from segue.supervisor.control.requests import Map  # noqa: PLC0415

    changes = {}
    for pair in pairs:
        found = _PAIR.fullmatch(pair)
        if found is None:
            raise UsageError(f"{pair!r} sets nothing: write KEY=VALUE, such as 0xC00002=1")
        changes[int(found[1], 0)] = int(found[2], 0)
    try:
        gone = tuple(int(key, 0) for key in delete)
    except ValueError:
        raise UsageError(f"--delete takes a key, a number, not {', '.join(delete)}") from None
    answer = request(name, control, Map(map_name, changes, gone))
    for one in answer.get("maps", []):
        tell(one)
    for address, held in answer.get("contents", {}).items():
        for key, value in sorted(held.items(), key=lambda pair: int(pair[0])):
            tell(f"{address} {map_name}[{key}] = {value}")
    return int(answer["exit"])
