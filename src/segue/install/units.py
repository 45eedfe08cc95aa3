"""Units of systemd and the files beside them, for one command line of ``segue run``.

Directives are explained in systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.socket(5)
and systemd.resource-control(5).  Every capability is argued in docs/SECURITY.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from segue.errors import UsageError
from segue.supervisor.control.export_target import ExportTarget
from segue.supervisor.lifecycle.giving_way import AUTO, OFF
from segue.supervisor.settings import BACKLOG, Settings

_FIRST_RELOAD = 253  # the systemd that brought Type=notify-reload
_FIRST_TO_TELL = 254  # the one that brought $FDSTORE
_MARGIN = 5.0  # seconds that a service manager waits longer than Segue: who kills first says less
LOW_PORTS = 1024
_SPECIFIER, _VARIABLE = "%", "$"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@+=:,./-{}")


# The control socket, the record and the history, which outlive a stop.
RUNTIME = (
    *("RuntimeDirectory=segue", "RuntimeDirectoryMode=0711", "RuntimeDirectoryPreserve=yes"),
)
HARDENED = (
    *("ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes"),
    *("ProtectKernelModules=yes", "LockPersonality=yes", "RestrictRealtime=yes"),
    *("RestrictSUIDSGID=yes", "SystemCallArchitectures=native"),
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)


@dataclass(frozen=True, slots=True)
class System:
    """What the text depends on, besides the settings."""

    systemd: int  # its version
    somaxconn: int
    directory: str  # in which the command line was given


@dataclass(frozen=True, slots=True)
class Written:
    """One file."""

    path: str
    text: str
    why: str  # what it is for


def files(
    settings: Settings, argv: Sequence[str], system: System, *, sockets: bool = False
) -> list[Written]:
    """The files for this command line (``argv``, which begins with the path of segue).

    With ``sockets`` systemd opens the listeners, so that they outlive the supervisor and all
    workers.  Raises UsageError for a name, a word or settings that no unit can have.
    """
    name = settings.instance_name
    if sockets and (settings.bind_by == "worker" or settings.beside):
        raise UsageError("--socket cannot be had with --bind-by worker or --beside")
    unit = f"segue-{name}"
    found = [
        Written(
            f"/etc/systemd/system/{unit}.service",
            _service(settings, argv, system, unit if sockets else ""),
            "the service",
        )
    ]
    if sockets:
        found.append(
            Written(
                f"/etc/systemd/system/{unit}.socket",
                _socket(settings, unit),
                "its listeners, which outlive it",
            )
        )
    if settings.output_file:
        found.append(
            Written(
                f"/etc/logrotate.d/{unit}",
                _logrotate(settings.output_file, unit),
                "the rotation of its log",
            )
        )
    if sysctls := _sysctls(settings, system):
        text = "".join(f"# {why}\n{key} = {value}\n" for key, (value, why) in sysctls.items())
        found.append(Written(f"/etc/sysctl.d/60-{unit}.conf", text, "what its settings need"))
    return found


def capabilities(settings: Settings) -> dict[str, str]:
    """What the supervisor and its workers need, by name, and what for."""
    found: dict[str, str] = {}
    if settings.engine in {"auto", "migrate"}:
        found["CAP_BPF"] = "waiting connections migrate"
    if settings.carry != "off" or settings.inject:
        found["CAP_NET_ADMIN"] = "kept connections are carried, programs of a cgroup"
    if settings.carry != "off":
        found["CAP_NET_RAW"] = found["CAP_PERFMON"] = "kept connections are carried"
    if any(bind.address.port < LOW_PORTS for bind in settings.binds):
        found["CAP_NET_BIND_SERVICE"] = "a port below 1024"
    if settings.user or settings.group:
        for one in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
            found[one] = "workers of another user"
        for one in ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"):
            found[one] = "to see what these hold"
        found["CAP_CHOWN"] = "their page is theirs to write"
    if settings.output_file or (settings.metrics and ExportTarget.parse(settings.metrics).path):
        found["CAP_DAC_OVERRIDE"] = "a log or metrics in a directory of another user"
    for one in settings.keep_capability:
        found[f"CAP_{one.upper().removeprefix('CAP_')}"] = "workers keep it"
    return found


def _service(settings: Settings, argv: Sequence[str], system: System, socket: str) -> str:
    return "".join(f"{line}\n" for line in _service_lines(settings, argv, system, socket))


def _service_lines(
    settings: Settings, argv: Sequence[str], system: System, socket: str
) -> Iterator[str]:
    yield "[Unit]"
    addresses = " ".join(str(bind.address) for bind in settings.binds)
    yield f"Description={escaped(settings.command[0].rpartition('/')[2])} at {addresses} (segue)"
    yield "Wants=network-online.target"
    yield "After=network-online.target"
    if socket:
        yield f"Requires={socket}.socket"
        yield f"After={socket}.socket"
    yield ""
    yield "[Service]"
    if system.systemd >= _FIRST_RELOAD:
        yield "# systemctl reload restarts the workers, and returns when the new ones serve."
        yield "Type=notify-reload"
    else:
        yield "Type=notify"
        yield "# systemctl reload restarts the workers."
        yield "ExecReload=/bin/kill -HUP $MAINPID"
    yield from started(argv, system)
    yield "Restart=on-failure"
    yield "# Only the supervisor is told to stop: it stops the workers, when they are quiet.  If it"
    yield "# dies itself, the workers serve on, and the supervisor that is started then has them."
    yield "KillMode=process"
    yield f"TimeoutStartSec={_seconds(settings.ready_timeout + settings.start_retry)}"
    yield f"TimeoutStopSec={_seconds(_longest_stop(settings))}"
    yield "# A worker that is killed for want of memory is replaced, and is no end of the service."
    yield "OOMPolicy=continue"
    if not socket and settings.bind_by == "supervisor" and not settings.beside:
        yield "# If the supervisor and all workers die, clients wait for the next start."
        yield f"FileDescriptorStoreMax={len(settings.binds)}"
        if system.systemd < _FIRST_TO_TELL:
            yield f"Environment=FDSTORE={len(settings.binds)}"
    yield "LimitNOFILE=524288"
    if settings.gentle_start:
        yield "# Newcomers start with the lowest nice value, and get this one back."
        yield "LimitNICE=20"
    yield from RUNTIME
    yield ""
    yield from _hardening(settings)
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"


def _hardening(settings: Settings) -> Iterator[str]:
    if settings.user or settings.group:
        yield from bounded(capabilities(settings))
    else:
        yield "# With --user the workers are another user's, and the capabilities can be bounded."
    if not settings.allow_new_privileges:
        yield "NoNewPrivileges=yes"
    yield "# What neither the supervisor nor a server needs.  More may fit your application:"
    yield "# systemd-analyze security has the list."
    yield from HARDENED
    yield "ProtectSystem=full"
    if settings.inject:
        yield "# --inject attaches a program to a cgroup of this service."
        yield "Delegate=yes"
    elif settings.gentle_start and settings.cgroup == AUTO:
        yield "# Each worker gets a control group of its own here, and a newcomer's is idle"
        yield "# (cpu.idle): so it gives way better than by a nice value.  ProtectControlGroups=yes"
        yield "# would forbid it, and can be had in the place of this."
        yield "Delegate=cpu"
    elif not settings.gentle_start or settings.cgroup == OFF:
        yield "ProtectControlGroups=yes"


def started(argv: Sequence[str], system: System) -> Iterator[str]:
    """What is started, and where.  Raises UsageError for a word that no unit can have."""
    yield f"ExecStart={' '.join(_word(one) for one in argv)}"
    yield f"WorkingDirectory={escaped(system.directory)}"


def bounded(needed: Mapping[str, str]) -> Iterator[str]:
    """No capabilities but these, each with what it is for."""
    by_reason: dict[str, list[str]] = {}
    for one, why in needed.items():
        by_reason.setdefault(why, []).append(one)
    for why, those in by_reason.items():
        yield f"# {', '.join(those)}: {why}."
    yield f"CapabilityBoundingSet={' '.join(needed)}"


def _socket(settings: Settings, unit: str) -> str:
    lines = ["[Unit]", f"Description=Listeners of {unit}.service", "", "[Socket]"]
    lines += [f"ListenStream={bind.address}" for bind in settings.binds]
    lines += [f"Backlog={settings.backlog}", "NoDelay=yes"]
    lines += ["", "[Install]", "WantedBy=sockets.target"]
    return "".join(f"{line}\n" for line in lines)


def _logrotate(path: str, unit: str) -> str:
    return f"""\
"{path}" {{
    weekly
    rotate 8
    compress
    delaycompress
    missingok
    notifempty
    postrotate
        systemctl kill --kill-who=main --signal=USR1 {unit}.service
    endscript
}}
"""


def _sysctls(settings: Settings, system: System) -> Mapping[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    if settings.engine == "hash":
        why = "The engine hash has the kernel itself choose who gets what a closed listener had."
        found["net.ipv4.tcp_migrate_req"] = "1", why
    if settings.backlog != BACKLOG and settings.backlog > system.somaxconn:
        why = f"So many connections may wait in a listener (--backlog {settings.backlog})."
        found["net.core.somaxconn"] = str(settings.backlog), why
    return found


def _longest_stop(settings: Settings) -> float:
    whole = settings.stop_delay + settings.drain_timeout + settings.stop_timeout
    return settings.stop_limit or whole


def _seconds(limit: float) -> str:
    return f"{limit + _MARGIN:g}"


def _word(text: str) -> str:
    """One argument of ExecStart (systemd.service(5), "COMMAND LINES")."""
    if "\n" in text or "\0" in text:
        raise UsageError(f"an argument of a unit cannot have a line end: {text!r:.80}")
    plain = escaped(text).replace(_VARIABLE, 2 * _VARIABLE)
    if text and set(text) <= _PLAIN:
        return plain
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def escaped(text: str) -> str:
    """Text without specifiers (systemd.unit(5))."""
    return text.replace(_SPECIFIER, 2 * _SPECIFIER)
