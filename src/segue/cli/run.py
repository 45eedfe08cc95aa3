"""``segue run``: start a server's workers, and keep their connections through restarts."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from segue.cli.shared.telling import tell
from segue.errors import SegueError, UsageError
from segue.supervisor.control.export_target import ExportTarget
from segue.supervisor.settings import CHOICES, KEYS, Bind, Settings, parse_toml, read_file
from segue.supervisor.source import CONFIG, Source, digest, started_in

Command = TypeVar("Command", bound=Callable[..., Any])
# Variables that are not settings: where instances keep files and pins, and what a supervisor sets
# for its workers and its successor.
_INTERNAL = ("directory", "worker", "worker_number", "generation", "handover", "bpffs")
_PATHS = ("chdir", "env_file", "object", "output_file")  # settings that are paths
_DEFAULTS = Settings((Bind.parse("127.0.0.1:1", 0),), ("true",))


class _Lines(click.types.StringParamType):
    """Strings that may have spaces; in the environment, one a line."""

    envvar_list_splitter = "\n"


def _option(flag: str, text: str, **more: Any) -> Callable[[Command], Command]:
    """An option for a field of Settings, also read from SEGUE_<NAME>, with the choices it has."""
    field = flag.split("/", maxsplit=1)[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, field, None)
    plain = isinstance(default, int | float | str) and not isinstance(default, bool)
    number = f"{default:g}" if isinstance(default, float) else default
    shown = f"  [default: {number}]" if plain and default != "" else ""
    if field in CHOICES:
        more["type"] = click.Choice(CHOICES[field])
    # Click gets no default: an option that was not given must not hide the value in the file.
    return click.option(
        flag, envvar=f"SEGUE_{field.upper()}", default=None, help=text + shown, **more
    )


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Every option can also be set in segue.toml, or in the environment as SEGUE_<NAME>."
    " A flag overrides the environment, and the environment overrides the file.",
)
@click.option(
    "--bind",
    "binds",
    multiple=True,
    envvar="SEGUE_BIND",
    metavar="[NAME=]HOST:PORT",
    help="An address to serve. May be given several times.",
)
@_option(
    "--chdir",
    "The directory that workers start in, found by its name at each start of a worker."
    "  [default: the current directory]",
    metavar="DIR",
)
@_option("--workers", "How many worker processes to run.", type=int)
@_option("--name", "The name of this instance.  [default: its first address]")
@_option(
    "--bind-by",
    "supervisor: the supervisor opens the listeners, and a worker gets them as descriptors from 3"
    " on. worker: each worker opens its own and must set SO_REUSEPORT (granian, nginx, node).",
)
@_option(
    "--inject/--no-inject",
    "With --bind-by worker: set SO_REUSEPORT for a server that has no option for it. A BPF program"
    " sets it at bind(2); this needs Linux 5.15, cgroup2, CAP_BPF and CAP_NET_ADMIN.  [default:"
    " off]",
)
@_option(
    "--beside/--no-beside",
    "Start even if other processes listen at the address and share it (see segue adopt)."
    "  [default: off]",
)
@_option(
    "--engine",
    "How connections are kept. auto takes the best engine that passes a test on this machine.",
)
@_option(
    "--object",
    "A compiled BPF object (clang -target bpf). Its program chooses the listener for each"
    " connection, new or migrating (docs/OBJECT.md).",
)
@_option(
    "--policy",
    "A policy in Python that chooses the listener for each connection, new or migrating:"
    " FILE.py:NAME, or a name that segue policy list shows (docs/POLICY.md).",
)
@_option(
    "--ready",
    "When a worker is ready. notify: it has sent READY=1. accept: it has accepted a test"
    " connection (and gets no NOTIFY_SOCKET). auto: it has accepted one, and sent READY=1 if it"
    " uses sd_notify.",
)
@_option(
    "--ready-http",
    "Also require a good response to GET PATH before a worker is ready. https:/PATH asks by TLS,"
    " without a look at the certificate.",
    metavar="PATH",
)
@_option(
    "--ready-host",
    "The Host header of what --ready-http asks, and the name in SNI.  [default: the address]",
    metavar="NAME",
)
@click.option(
    "--ready-header",
    multiple=True,
    envvar="SEGUE_READY_HEADER",
    type=_Lines(),
    metavar="'NAME: VALUE'",
    help="Send this header with what --ready-http asks. May be given several times.",
)
@_option(
    "--ready-status",
    "Which statuses are good responses: numbers and ranges, such as 200-399 or 200,204.",
    metavar="STATUSES",
)
@_option(
    "--ready-timeout",
    "Give up a worker that is not ready after SECONDS.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--idle-grace",
    "Treat a connection as idle after SECONDS without traffic and without an open request.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--drain-timeout",
    "Give an old worker SECONDS to finish its connections.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--stop-timeout",
    "Kill a worker that still runs SECONDS after the stop signal and its last connection. A worker"
    " that has connections gets the whole of its drain time.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--stop-delay",
    "When the instance is told to stop, serve on for SECONDS while workers say that they drain,"
    " then refuse new connections.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--stop-limit",
    "Stop the instance within SECONDS. The drain and stop timeouts are shortened to fit, and what"
    " still runs at the end is killed. 0 means no limit (docs/STOP.md).",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--keep",
    "Keep the old generation for SECONDS after a restart, so that a rollback is possible.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--restart-step",
    "At a restart, replace N workers at a time. It then needs the memory of N more workers, instead"
    " of a second generation. 0: all at once.",
    metavar="N",
    type=int,
)
@_option("--stop-signal", "The signal that tells a worker to finish.", metavar="SIGNAL")
@_option(
    "--leftovers",
    "What becomes of processes that a worker started and that still run when it has ended. end:"
    " they get the stop signal, and are killed after --stop-timeout. keep: they are left alone.",
)
@_option("--user", "The user that workers run as.")
@_option("--group", "The group that workers run as.")
@click.option(
    "--keep-capability",
    multiple=True,
    envvar="SEGUE_KEEP_CAPABILITY",
    metavar="NAME",
    help="Let workers keep this capability of the supervisor, such as net_bind_service. May be"
    " given several times.  [default: none]",
)
@_option(
    "--allow-new-privileges/--no-new-privileges",
    "With --user or --group: let workers gain rights through set-user-ID programs such as sudo, and"
    " through files with capabilities.  [default: off]",
)
@_option(
    "--backlog",
    "How many connections may wait in one listener to be accepted, whatever the server says. The"
    " default is only set where the supervisor binds and the server asks for less.",
    type=int,
)
@_option(
    "--nodelay/--no-nodelay",
    "Set TCP_NODELAY on the listeners. Their connections inherit it.  [default: on]",
)
@_option(
    "--output",
    "How worker output is shown. prefix: each line with a prefix, escape sequences (also colours)"
    " as plain text. json: lines of JSON. raw: unchanged.",
)
@_option(
    "--output-file",
    "Print into FILE, which is opened by its name again at USR1, HUP and segue reexec, as a log"
    " rotation needs it. It is made with mode 0640.",
    metavar="FILE",
)
@_option(
    "--log-time",
    "Begin each line of Segue's own with the time. auto: if it goes to a regular file.",
)
@_option(
    "--log-format",
    "text: Segue's own lines are sentences; where they go to journald, it gets their level. json:"
    " each is an object with time, level (info, warning, error), instance, who and line."
    " --output json makes them so too.",
)
@_option(
    "--metrics",
    "Export metrics for Prometheus at ADDRESS or unix:PATH (HTTP, at /metrics), or into"
    " textfile:PATH. A process beside the supervisor does it. Needs the extra metrics"
    " (docs/METRICS.md).",
    metavar="TARGET",
)
@_option(
    "--start-retry",
    "When workers of the first generation fail within SECONDS of the start, start new ones, at most"
    " 10 s apart, instead of giving up at the first failure.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--gentle-start",
    "Until a newcomer is ready, and for SECONDS at most, it gives way to workers that serve when"
    " both want a processor. So does a worker that stops and has no client. 0: never.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--cgroup",
    "The control group below which each worker has one of its own, to give way by (cpu.idle): a"
    " path, or off. auto: the one that systemd has delegated to this process. Without one, workers"
    " give way by nice 19.",
    metavar="PATH",
)
@_option(
    "--crash-limit",
    "Give up, with exit code 3, when more workers than this have died within --crash-window and"
    " none serves. 0: once workers have served, start new ones for ever, at most 10 s apart.",
    type=int,
)
@_option(
    "--crash-window",
    "The period for --crash-limit.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--rescue",
    "Rescue connections from a worker that accepts nothing for TIME while others could accept them:"
    " move them to the others, and send it nothing new until it accepts again. off disables this."
    " Needs the engine migrate (docs/RESCUE.md).",
    metavar="TIME",
)
@_option(
    "--stall-kill",
    "Replace a worker that has accepted nothing for SECONDS while clients waited, or that was"
    " stalled for SECONDS in total within the last 10 x SECONDS. Its successor is started first. 0"
    " disables this.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--live-http",
    "Ask each serving worker GET PATH now and then, and replace one that does not answer well. Its"
    " successor is started first. https:/PATH asks by TLS. --ready-host, --ready-header and"
    " --ready-status go for this too.",
    metavar="PATH",
)
@_option("--live-every", "Ask each worker every SECONDS.", metavar="SECONDS", type=float)
@_option(
    "--live-timeout",
    "An answer must have begun within SECONDS.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--live-failures",
    "Replace a worker after so many bad answers in a row.",
    type=int,
)
@_option(
    "--balance",
    "queue: give a worker whose queue never empties a smaller share, in proportion to its accept"
    " rate. Needs the engine migrate (docs/BALANCE.md).",
)
@_option(
    "--carry",
    "Carry kept connections of old workers to new ones. app: those that the application's"
    " middleware says are between two requests. http: also those that look so to the kernel; you"
    " promise that clients speak HTTP/1.x here, and that TLS ends elsewhere. Both are refused where"
    " they do not work. auto: app where it works. Needs Linux 6.9 and CAP_NET_ADMIN"
    " (docs/CARRY.md).",
)
@_option(
    "--carry-crash/--no-carry-crash",
    "Hold a duplicate of each kept connection, so that it is carried to another worker if its own"
    " crashes. Costs a descriptor for each; the end of one that its worker closes comes up to a"
    " second later.",
)
@_option(
    "--keep-idle",
    "When a worker closes a connection that was idle for --idle-grace, keep it open for SECONDS at"
    " most, and give it to a worker with its next request. 0 disables this.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--max-lifetime",
    "Recycle a worker after SECONDS: a successor is started, and takes its place when it is ready."
    " One worker at a time, each up to a tenth earlier by chance (docs/RECYCLE.md). 0 disables"
    " this.",
    metavar="SECONDS",
    type=float,
)
@_option(
    "--max-rss",
    "Recycle a worker when it and its child processes use SIZE of memory, such as 300M or 1G. 0"
    " disables this.",
    metavar="SIZE",
)
@_option(
    "--max-connections",
    "Recycle a worker when it was given N connections, however many requests came on each. Needs"
    " the engine migrate. 0 disables this.",
    metavar="N",
    type=int,
)
@click.option(
    "--env", multiple=True, metavar="NAME=VALUE", help="Add a variable to the workers' environment."
)
@_option(
    "--env-file",
    "Add the variables of a file (NAME=VALUE lines, as in systemd's EnvironmentFile). It is read at"
    " each start of a worker. --env overrides it.",
    metavar="PATH",
)
@click.option(
    "--config", metavar="FILE", help=f"Read settings from FILE.  [default: {CONFIG} if it exists]"
)
@click.option("--check", is_flag=True, help="Check the settings and exit. Nothing is bound.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
def run(config: str | None, *, check: bool, **given: Any) -> int:
    """Start a server, and restart it without losing a connection.

    COMMAND is started once for each worker. A worker gets its listeners as descriptors from 3 on
    (LISTEN_FDS). In COMMAND, {fd}, {host} and {port} are replaced; the nth one belongs to the nth
    --bind. {worker} and {generation} are replaced by their numbers.
    """
    context = click.get_current_context()
    from_environment = {
        name for name in given if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    }

    def again(where: str) -> tuple[Settings, Source]:
        return read(config, given, where, from_environment)

    settings, source = again(started_in(os.environ))
    # Imported here: --help needs nothing of the supervisor.
    from segue.supervisor.run import start  # noqa: PLC0415
    from segue.supervisor.run.service import Asked  # noqa: PLC0415

    if check:
        start.check(settings, source)
        addresses = ", ".join(str(bind.address) for bind in settings.binds)
        tell(
            f"{settings.instance_name}: {addresses}, {settings.workers} worker(s):"
            " the settings are good"
        )
        return 0
    try:
        return start.serve(Asked(settings, source, again))
    except SegueError as error:
        log = start.log_of(settings)
        if not log.as_json:
            raise
        log.say(str(error), "error")  # a reader of JSON gets no other lines
        return error.exit_code


def read(
    config: str | None,
    given: dict[str, Any],
    start: str,
    from_environment: Collection[str] = (),
) -> tuple[Settings, Source]:
    """Settings from a file, overridden by what click has ``given``; and where they came from.

    Click has read flags and the environment, whose paths are relative to ``start``.  Those in the
    file are relative to the file.  Raises UsageError, which names the file or the variable that a
    wrong value is from.
    """
    path = os.path.join(start, config or CONFIG)
    source, chosen = Source(start), {}
    if config or os.path.exists(path):
        data = read_file(path)
        source = Source(start, path, digest(data))
        chosen = by_name(parse_toml(path, data), os.path.dirname(path))
    for variable in os.environ:
        _refuse_unknown(variable)
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    chosen.update(by_name(asked, start))
    binds = chosen.pop("binds", ())
    chosen["command"] = tuple(chosen.get("command", ()))
    for many in ("env", "keep_capability", "ready_header"):
        chosen[many] = tuple(chosen.get(many, ()))
    try:
        settings = Settings(tuple(Bind.parse(text, n) for n, text in enumerate(binds)), **chosen)
    except UsageError as error:
        origin = dict.fromkeys(chosen, source.file) | dict.fromkeys(asked, "")
        origin |= {name: f"SEGUE_{name.upper()} in the environment" for name in from_environment}
        raise _of(origin, error) from None
    return settings, source


def _of(origin: Mapping[str, str], error: UsageError) -> UsageError:
    """The error with where the value of the option that it begins with came from."""
    named = re.match("--([a-z-]+) ", str(error))
    where = origin.get(named[1].replace("-", "_"), "") if named else ""
    return UsageError(f"{where}: {error}") if where else error


def by_name(values: dict[str, Any], directory: str) -> dict[str, Any]:
    """The same with its paths absolute: those in ``directory``, by the name that it is given."""
    target = values.get("metrics")
    if target:
        values = {**values, "metrics": str(ExportTarget.parse(target).below(directory))}
    return values | {
        name: os.path.join(directory, value)
        for name, value in values.items()
        # A policy without a colon is one of the library.
        if value and (name in _PATHS or (name == "policy" and ":" in value))
    }


def _refuse_unknown(variable: str) -> None:
    """Raise UsageError for a SEGUE_ variable that no setting has: it is probably misspelt."""
    known = [f"SEGUE_{key.upper().replace('-', '_')}" for key in (*KEYS, *_INTERNAL)]
    if variable.startswith("SEGUE_") and variable not in known:
        near = difflib.get_close_matches(variable, known, n=1)
        advice = f"did you mean {near[0]}?" if near else "unset it"
        raise UsageError(f"{variable} in the environment is not a setting; {advice}")
