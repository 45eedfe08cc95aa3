"""``segue run``: start a server's workers and keep its connections through their restarts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from segue.cli.telling import tell
from segue.errors import UsageError
from segue.supervisor.settings import KEYS, Bind, Settings, read_toml

Command = TypeVar("Command", bound=Callable[..., Any])
_CONFIG = "segue.toml"
# Where instances keep their files and pins, and what a supervisor sets for workers and successor.
_INTERNAL = ("directory", "worker", "generation", "handover", "bpffs")
_DEFAULTS = Settings((Bind.parse("127.0.0.1:1", 0),), ("true",))


def _option(flag: str, text: str, **more: Any) -> Callable[[Command], Command]:
    """An option whose name is a field of Settings, also read from SEGUE_<NAME>."""
    field = flag.split("/", maxsplit=1)[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, field, None)
    plain = isinstance(default, int | float | str) and not isinstance(default, bool)
    shown = f"  [default: {default}]" if plain and default != "" else ""
    # No default is given to click: what was not said must not hide what the file says.
    return click.option(
        flag, envvar=f"SEGUE_{field.upper()}", default=None, help=text + shown, **more
    )


_CHOICES = {
    "bind_by": ["supervisor", "worker"],
    "engine": ["auto", "migrate", "hash", "drain"],
    "ready": ["auto", "notify", "accept"],
    "output": ["prefix", "json", "raw"],
    "balance": ["off", "queue"],
}


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Every option can stand in segue.toml or in the environment as SEGUE_<NAME>;"
    " a flag wins over the environment, which wins over the file.",
)
@click.option(
    "--bind",
    "binds",
    multiple=True,
    envvar="SEGUE_BIND",
    metavar="[NAME=]HOST:PORT",
    help="An address to serve; may be given several times.",
)
@_option("--workers", "How many processes of the command run side by side.", type=int)
@_option("--name", "What this instance is called.  [default: its first address]")
@_option(
    "--bind-by",
    "Who opens the listeners: the supervisor, which hands them over as descriptors 3 and on, or"
    " the worker, which then must set SO_REUSEPORT (granian, nginx, node).",
    type=click.Choice(_CHOICES["bind_by"]),
)
@_option(
    "--inject/--no-inject",
    "With --bind-by worker: set SO_REUSEPORT for a server that cannot be asked to, by a program at"
    " its bind(2) (needs cgroup2, CAP_BPF and CAP_NET_ADMIN).  [default: off]",
)
@_option(
    "--beside/--no-beside",
    "Start beside who listens at the address already and shares it (segue adopt), instead of"
    " refusing.  [default: off]",
)
@_option(
    "--engine",
    "How connections are kept; auto takes the best that a live test proves.",
    type=click.Choice(_CHOICES["engine"]),
)
@_option(
    "--object",
    "A compiled BPF object (clang -target bpf) whose program says which listener gets a connection,"
    " new or migrating; see docs/OBJECT.md.",
)
@_option(
    "--policy",
    "A policy in Python that says which listener gets a connection, new or migrating: FILE.py:NAME,"
    " or one of the library (segue policy list); see docs/POLICY.md.",
)
@_option(
    "--ready",
    "What proves a worker ready: READY=1, an accepted connection, or (auto) both where it"
    " speaks sd_notify.",
    type=click.Choice(_CHOICES["ready"]),
)
@_option("--ready-http", "A path that must be answered 2xx before a worker is ready.")
@_option("--ready-timeout", "Seconds a worker may take to become ready.", type=float)
@_option(
    "--idle-grace",
    "Seconds after which a connection on which nothing moves and no answer is owed counts as idle.",
    type=float,
)
@_option("--drain-timeout", "Seconds an old worker may take to finish what it has.", type=float)
@_option(
    "--stop-timeout",
    "Seconds from the stop signal to SIGKILL; a worker that has connections is killed no earlier"
    " than when its drain time is over.",
    type=float,
)
@_option("--keep", "Seconds to keep the old generation for a rollback.", type=float)
@_option("--stop-signal", "What tells a worker to finish.")
@_option("--user", "Whom the workers run as.")
@_option("--group", "The workers' group.")
@click.option(
    "--keep-capability",
    multiple=True,
    envvar="SEGUE_KEEP_CAPABILITY",
    metavar="NAME",
    help="A capability of the supervisor's that its workers keep, such as net_bind_service; may be"
    " given several times.  [default: none]",
)
@_option(
    "--allow-new-privileges/--no-new-privileges",
    "With --user or --group: let workers get rights by set-user-ID programs such as sudo and by"
    " files with capabilities.  [default: off]",
)
@_option("--backlog", "How many finished connections may wait in one listener.", type=int)
@_option(
    "--nodelay/--no-nodelay",
    "Set TCP_NODELAY on the listeners, which connections inherit.  [default: on]",
)
@_option(
    "--output",
    "Worker output: lines with a prefix, in which escapes (colours too) are shown and not obeyed;"
    " lines of JSON; or untouched.",
    type=click.Choice(_CHOICES["output"]),
)
@_option("--crash-limit", "Deaths within the window after which to give up.", type=int)
@_option("--crash-window", "Seconds.", type=float)
@_option(
    "--rescue",
    "How long a worker may accept nothing while others could, until what waits behind it is moved"
    " to them and nothing new is sent to it; off for never.  Needs the engine migrate.",
    metavar="TIME",
)
@_option(
    "--stall-kill",
    "Replace a worker that is stalled for so many seconds of the last ten times as many; 0 for"
    " never.",
    type=float,
)
@_option(
    "--balance",
    "Whether a worker whose queue does not empty gets less than its siblings, as far as it accepts"
    " more slowly (queue); see docs/BALANCE.md.  Needs the engine migrate.",
    type=click.Choice(_CHOICES["balance"]),
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Add to the workers' environment.")
@click.option(
    "--config", metavar="FILE", help=f"Read settings from FILE.  [default: {_CONFIG} if there]"
)
@click.option("--check", is_flag=True, help="Check the settings, bind nothing, and exit.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(config: str | None, *, check: bool, **given: Any) -> int:
    """Start COMMAND's workers, and restart them without losing a connection.

    The command finds its listener as descriptor 3 (LISTEN_FDS); {fd}, {host} and {port} in it are
    filled in, the nth for the nth --bind.
    """
    path = _path(config)
    settings = read(path, given)
    # Imported here: --help needs nothing of the supervisor.
    from segue.supervisor.run import start  # noqa: PLC0415

    if check:
        start.check(settings)
        addresses = ", ".join(str(bind.address) for bind in settings.binds)
        tell(f"{settings.instance_name}: {addresses}, {settings.workers} worker(s): good")
        return 0
    return start.serve(settings, reread=lambda: read(_path(config), given), config=path)


def _path(config: str | None) -> str:
    return config or (_CONFIG if os.path.exists(_CONFIG) else "")


def read(path: str, given: dict[str, Any]) -> Settings:
    """Flags over environment over file ("" for none), as Settings.  Raises UsageError."""
    for variable in os.environ:
        _refuse_unknown(variable)
    chosen = read_toml(path) if path else {}
    chosen.update({name: value for name, value in given.items() if value not in (None, ())})
    binds = chosen.pop("binds", ())
    chosen["command"] = tuple(chosen.get("command", ()))
    for many in ("env", "keep_capability"):
        chosen[many] = tuple(chosen.get(many, ()))
    return Settings(tuple(Bind.parse(text, n) for n, text in enumerate(binds)), **chosen)


def _refuse_unknown(variable: str) -> None:
    """Raise UsageError for a SEGUE_ variable that nothing reads: it was meant to do something."""
    known = [f"SEGUE_{key.upper().replace('-', '_')}" for key in (*KEYS, *_INTERNAL)]
    if variable.startswith("SEGUE_") and variable not in known:
        near = difflib.get_close_matches(variable, known, n=1)
        advice = f"did you mean {near[0]}?" if near else "unset it"
        raise UsageError(f"{variable} in the environment is not a setting; {advice}")
