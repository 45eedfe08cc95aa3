"""``segue policy``: look at policies in Python and try them, without touching a listener."""

from __future__ import annotations

import re
from typing import Any

import click

from segue.cli.shared.progress import progress
from segue.cli.shared.telling import tell, tell_json, tell_lines
from segue.errors import UsageError

_NUMBER = r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})"
_JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
_PAIR = re.compile(f"{_NUMBER}={_NUMBER}")


@click.group()
def policy() -> None:
    """Check, show and try policies; set the maps of one that runs.

    A POLICY is FILE.py:NAME, or a name from the library.
    """


@policy.command("list")
@_JSON
def list_(*, as_json: bool) -> int:
    """List the policies of the library, one a line."""
    from segue.policy.library import LIBRARY  # noqa: PLC0415  --help needs no compiler

    known = {name: (one.__doc__ or "").strip().splitlines()[0] for name, one in LIBRARY.items()}
    if as_json:
        tell_json([{"name": name, "does": does} for name, does in known.items()], indent=2)
        return 0
    for name, does in known.items():
        tell(f"{name:<22} {does}")
    return 0


@policy.command()
@click.argument("policy")
@_JSON
def check(policy: str, *, as_json: bool) -> int:
    """Compile a policy and let the kernel's verifier check it.  Nothing is changed."""
    from segue.engine.loaded import load  # noqa: PLC0415
    from segue.engine.policies import compiled  # noqa: PLC0415

    made = compiled(policy)
    length = len(made.listing)
    if as_json:
        with progress("asking the verifier"), load(made) as loaded:
            verified = loaded.program.info().verified
        plain = {
            "policy": policy,
            "instructions": length,
            "worst_case": made.worst_case,
            "maps": [
                {"name": one.name, "kind": one.kind.value, "entries": one.size} for one in made.maps
            ],
            "verified_instructions": verified,
        }
        tell_json(plain, indent=2)
        return 0
    tell(f"{policy} compiles: {length} instructions, at most {made.worst_case} in one run")
    for one in made.maps:
        tell(f"  map {one.name}: {one.kind.value}, {one.size} entries")
    with progress("asking the verifier"), load(made) as loaded:
        verified = loaded.program.info().verified
    seen = f" (it checked {verified} instructions)" if verified else ""
    tell(f"the kernel's verifier accepts it{seen}")
    return 0


@policy.command()
@click.argument("policy")
def show(policy: str) -> int:
    """Show the source and the program side by side, in the verifier's notation."""
    from segue.engine.policies import compiled  # noqa: PLC0415
    from segue.policy.explain import listing  # noqa: PLC0415

    tell_lines(listing(compiled(policy)))
    return 0


@policy.command("try")
@click.argument("policy")
@click.option("--remote", default="192.0.2.7:40000", show_default=True, help="The client.")
@click.option("--local", default="192.0.2.1:443", show_default=True, help="The server's address.")
@click.option(
    "--migrating",
    type=click.Choice(["no", "request", "child", "fastopen"]),
    default="no",
    show_default=True,
    help="What part of the connection exists already.",
)
@click.option("--hash", "number", type=int, default=0, show_default=True, help="The kernel's hash.")
@click.option("--cookie", type=int, default=0, help="The cookie of its listener.")
@click.option(
    "--weights",
    default="0=1,1=1",
    show_default=True,
    metavar="SLOT=WEIGHT,...",
    help="The listeners, by slot, and their shares of the table.",
)
@_JSON
def try_(policy: str, weights: str, *, as_json: bool, **given: Any) -> int:
    """Show what a policy decides for one connection.

    It runs as Python, and as a program in Segue's own interpreter.  The kernel is not involved, and
    no permission is needed.  Maps hold what the policy's file puts in.
    """
    from segue.engine.policies import compiled  # noqa: PLC0415
    from segue.policy.dry_run import dry_run, example_connection, parse_weights  # noqa: PLC0415

    decision, steps = dry_run(compiled(policy), example_connection(**given), parse_weights(weights))
    if as_json:
        tell_json({"decision": str(decision), "instructions": steps}, indent=2)
        return 0
    tell(f"{decision} ({steps} instructions)")
    return 0


@policy.command("map")
@click.option("--name", default="", envvar="SEGUE_NAME", help="The name of the instance.")
@click.option("--control", default="", metavar="SOCKET", help="Its control socket.")
@_JSON
@click.option("--delete", multiple=True, metavar="KEY", help="Delete this key.")
@click.argument("map_name", metavar="[MAP]", default="")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
def map_(
    name: str, control: str, delete: tuple[str, ...], map_name: str, pairs: tuple[str],
    *, as_json: bool,
) -> int:  # fmt: skip
    """List the maps of a running policy, show one of them, or change it.

    Works under segue run and segue attach.  Numbers are decimal, or hexadecimal with 0x.
    """
    from segue.cli.shared.instance import request  # noqa: PLC0415  --help needs nothing of it
    from segue.supervisor.control.requests import Map  # noqa: PLC0415

    changes = {}
    for pair in pairs:
        found = _PAIR.fullmatch(pair)
        if found is None:
            raise UsageError(f"{pair!r} is not KEY=VALUE: write it like 0xC00002=1")
        changes[int(found[1], 0)] = int(found[2], 0)
    try:
        gone = tuple(int(key, 0) for key in delete)
    except ValueError:
        raise UsageError(f"--delete needs a number as its key (got {', '.join(delete)})") from None
    answer = request(name, control, Map(map_name, changes, gone))
    if as_json:
        tell_json(answer, indent=2)
        return int(answer["exit"])
    for one in answer.get("maps", []):
        tell(one)
    for address, held in answer.get("contents", {}).items():
        for key, value in sorted(held.items(), key=lambda pair: int(pair[0])):
            tell(f"{address} {map_name}[{key}] = {value}")
    return int(answer["exit"])
