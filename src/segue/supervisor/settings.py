"""The settings of ``segue run``: flags, environment and segue.toml, checked once.

The reason for a default stands beside it.  Checking never binds or listens: a listener opened just
for the check would receive connections, and they would be reset when it closes.
"""

from __future__ import annotations

import difflib
import re
import signal
import socket
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segue.address import Address
from segue.engine.programs import ProgramChoice
from segue.errors import UsageError
from segue.linux import capability
from segue.linux.openat import open_trusted
from segue.observe.stall import PATIENCE
from segue.supervisor.control.export_target import ExportTarget
from segue.supervisor.control.paths import NAME, check_name, name_of
from segue.supervisor.control.requests import LONGEST, MOST_WORKERS, shown
from segue.supervisor.lifecycle.giving_way import AUTO, OFF
from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.question import USUAL as QUESTION_STATUS
from segue.supervisor.question import Question

TOKEN = re.compile(r"\{(fd|host|port|worker|generation)\}")
_LONGEST_FILE = 1 << 16  # bytes of a segue.toml
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST_LIFE = 366 * 86400.0  # seconds
# More than the 511 or 1024 that servers choose.  somaxconn (4096) still limits it.
BACKLOG = 2048
_MOST_FAILURES = 1000  # of a worker that is asked
FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def patience(text: str, flag: str, more: str = "") -> float:
    """Seconds after which a worker counts as stalled.  ``flag`` and ``more`` are for the error.

    Raises UsageError if the text is not a time, or is out of range.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise UsageError(f"{flag} must be a time such as 50ms or 1s{more} (got {text!r})")
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    if not 0.01 <= seconds <= 60:
        raise UsageError(f"{flag} must be between 10ms and 60s{more} (got {text})")
    return seconds


def size(text: str, flag: str) -> int:
    """Bytes of a size such as 300M; 0 for "0" and "".  ``flag`` is for the error.

    Units are those of systemd: powers of 1024.  Raises UsageError if the text is not a size, or is
    out of range.
    """
    if text in {"", "0"}:
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"{flag} must be a size such as 300M or 1G, or 0 (got {shown(text)})")
    size = float(found[1]) * _UNITS[found[2]]
    if not _UNITS["M"] <= size <= 1024 * _UNITS["T"]:
        raise UsageError(f"{flag} must be between 1M and 1024T, or 0 (got {text})")
    return int(size)


@dataclass(frozen=True, slots=True)
class Bind:
    """One address to serve, and the name it has in LISTEN_FDNAMES."""

    name: str
    address: Address

    @classmethod
    def parse(cls, text: str, number: int) -> Bind:
        """Read ADDRESS or NAME=ADDRESS.  Without a name it is ``bind0``, ``bind1`` and so on."""
        name, equals, address = text.rpartition("=")
        if equals and not NAME.fullmatch(name):
            raise UsageError(
                f"{text!r}: the name of a listener must consist of letters, digits and"
                f" ._- (got {name!r})"
            )
        return cls(name or f"bind{number}", Address.parse(address))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one ``segue run``.  Times are in seconds."""

    binds: tuple[Bind, ...]
    command: tuple[str, ...]
    chdir: str = ""  # where workers start; "" for the directory of ``segue run``
    name: str = ""
    workers: int = 1
    bind_by: Literal["supervisor", "worker"] = "supervisor"
    inject: bool = False  # SO_REUSEPORT for workers that bind and do not set it
    beside: bool = False  # start although other processes share the address
    engine: Literal["auto", "migrate", "hash", "drain"] = "auto"
    # A file with a compiled BPF object.  Its program selects instead of the built-in one.
    object: str = ""
    # FILE.py:NAME, or a name of the library.  It too selects instead of the built-in program.
    policy: str = ""
    # auto needs both proofs: the worker accepts, and it has sent READY=1 if it uses sd_notify.
    ready: Literal["auto", "notify", "accept"] = "auto"
    ready_http: str = ""
    # These go for --live-http too.
    ready_host: str = ""
    ready_header: tuple[str, ...] = field(default=())
    ready_status: str = QUESTION_STATUS
    # Slow imports and database migrations take up to a minute.  The defaults of gunicorn and
    # Kubernetes are shorter, and people often have to raise them.
    ready_timeout: float = 60.0
    # Longer than a client pauses between two requests for one page, and shorter than people are
    # willing to wait.
    idle_grace: float = 1.0
    # gunicorn's graceful_timeout and Kubernetes' grace period are 30 s.
    drain_timeout: float = 30.0
    # From the stop signal to SIGKILL.  By then the worker is quiet, or its drain limit is over.
    stop_timeout: float = 10.0
    # From the request to stop until new connections are refused.  A balancer that asks for health
    # needs some seconds to send its clients elsewhere; without one they would only be kept longer.
    stop_delay: float = 0.0
    # For the whole of a stop.  Whoever stops us has a limit of his own, of which we know nothing.
    stop_limit: float = 0.0
    # The longest that those that start or stop leave the processors to others.  Imports that take
    # longer than this on an idle machine are rare, and a deploy is waited for.
    gentle_start: float = 10.0
    # Where the groups of workers are made.  In a group that nobody has left to us, they would
    # change how others share processors.
    cgroup: str = AUTO
    # How long the old generation is kept for a rollback once the new one has all new connections.
    keep: float = 0.0
    # 0 for all at once, which is the quickest.  Memory for two generations is mostly there.
    restart_step: int = 0
    stop_signal: str = "TERM"
    # What a worker leaves running is mostly its server, or a part of it, that nobody would end.
    leftovers: Literal["end", "keep"] = "end"
    user: str = ""
    group: str = ""
    # The supervisor may load programs into the kernel.  A worker needs no such right.
    keep_capability: tuple[str, ...] = field(default=())
    allow_new_privileges: bool = False  # with user or group: set-user-ID programs work
    backlog: int = BACKLOG
    nodelay: bool = True
    output: Literal["prefix", "json", "raw"] = "prefix"
    output_file: str = ""
    # auto: into a regular file.  Who reads a pipe or a socket (journald, docker, a collector) has
    # the time of each line already, and so does a person who sees it appear.
    log_time: Literal["auto", "on", "off"] = "auto"
    log_format: Literal["text", "json"] = "text"
    # At a first start a person most often waits for the answer, and at boot a service manager does.
    # Who starts beside a database that takes a minute knows it.
    start_retry: float = 0.0
    metrics: str = ""  # where they are exported to
    # 0 for never.  What keeps workers from starting (a database, a disk, a name server) is mostly
    # elsewhere and passes.  A supervisor that ends closes the listeners, so clients are refused
    # instead of waiting, and the start limit of a service manager then makes it final.
    crash_limit: int = 0
    crash_window: float = 60.0
    rescue: str = PATIENCE
    # A stalled worker may still answer the requests it has accepted, so only the user decides to
    # kill it.
    stall_kill: float = 0.0
    live_http: str = ""
    # A hang is found after three of them.  More often would find it sooner, and hit a moment's
    # trouble more often.
    live_every: float = 10.0
    live_timeout: float = 2.0
    live_failures: int = 3
    # Where workers differ, shares that change by themselves help.  Elsewhere they surprise.
    balance: Literal["off", "queue"] = "off"
    # auto: app where it works and a worker's middleware asks for it, for nobody else is concerned.
    carry: Literal["auto", "app", "http", "off"] = "auto"
    # A duplicate of each kept connection costs a descriptor, and delays the end of one that its
    # worker closes.
    carry_crash: bool = False
    keep_idle: float = 0.0
    # Of each worker, at which it is recycled.  What a program leaks nobody but the user knows.
    max_lifetime: float = 0.0
    max_rss: str = ""
    max_connections: int = 0
    env: tuple[str, ...] = field(default=())
    env_file: str = ""

    def __post_init__(self) -> None:
        if not self.binds:
            raise UsageError("there is nothing to listen at: give --bind HOST:PORT")
        if not self.command:
            raise UsageError("there is nothing to run: give the command after --")
        addresses = [bind.address for bind in self.binds]
        for address in addresses:
            if addresses.count(address) > 1:
                raise UsageError(f"--bind {address} is given twice")
        if self.inject and self.bind_by != "worker":
            raise UsageError("--inject needs --bind-by worker")
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"--workers must be between 1 and {MOST_WORKERS} (got {self.workers})")
        if not 1 <= self.backlog < 1 << 31:  # an int of listen(2)
            raise UsageError(
                f"--backlog must be between 1 and {(1 << 31) - 1} (got {self.backlog})"
            )
        if self.crash_limit < 0:
            raise UsageError(
                f"--crash-limit must be at least 1, or 0 for none (got {self.crash_limit})"
            )
        for limit in (
            "ready_timeout", "drain_timeout", "stop_timeout", "crash_window", "live_every",
        ):  # fmt: skip
            if not 0 < (seconds := getattr(self, limit)) < LONGEST:
                raise UsageError(
                    f"--{limit.replace('_', '-')} must be more than 0 and less than a day in"
                    f" seconds (got {seconds:g})"
                )
        for limit in (
            "idle_grace",
            "keep",
            "keep_idle",
            "stall_kill",
            "start_retry",
            "gentle_start",
            "stop_delay",
            "stop_limit",
        ):
            if not 0 <= (seconds := getattr(self, limit)) < LONGEST:
                raise UsageError(
                    f"--{limit.replace('_', '-')} must be at least 0 and less than a day in"
                    f" seconds (got {seconds:g})"
                )
        if not 0 <= self.restart_step <= MOST_WORKERS:
            raise UsageError(
                f"--restart-step must be between 1 and {MOST_WORKERS}, or 0 for all at once"
                f" (got {self.restart_step})"
            )
        if self.restart_step and self.keep:
            raise UsageError(
                "--keep holds the old workers beside the new ones, for which --restart-step leaves"
                " no room: leave one of them out"
            )
        if self.stop_limit and self.stop_limit <= self.stop_delay:
            raise UsageError(
                f"--stop-limit must be more than --stop-delay (got {self.stop_limit:g} and"
                f" {self.stop_delay:g})"
            )
        self._refuse_holding_for_nothing()
        self._refuse_idle_questions()
        if self.name:
            check_name(self.name)
        if self.program_choice and self.engine not in {"auto", "migrate"}:
            raise UsageError(
                f"{self.program_choice} needs the engine migrate (got --engine {self.engine})"
            )
        if self.balance == "queue" and self.engine not in {"auto", "migrate"}:
            raise UsageError(
                f"--balance queue needs the counters of the engine migrate (got --engine"
                f" {self.engine})"
            )
        if self.max_lifetime and not 1 <= self.max_lifetime < _LONGEST_LIFE:
            raise UsageError(
                "--max-lifetime must be at least 1 and less than a year in seconds, or 0"
                f" (got {self.max_lifetime:g})"
            )
        if not 0 <= self.max_connections < 1 << 31:
            raise UsageError(
                f"--max-connections must be between 1 and {(1 << 31) - 1}, or 0"
                f" (got {self.max_connections})"
            )
        if self.max_connections and self.engine not in {"auto", "migrate"}:
            raise UsageError(
                f"--max-connections needs the counters of the engine migrate (got --engine"
                f" {self.engine}); --max-lifetime and --max-rss work with every engine"
            )
        size(self.max_rss, "--max-rss")
        self._refuse_no_paths()
        capability.bits(self.keep_capability)
        if self.allow_new_privileges and not (self.user or self.group):
            raise UsageError("--allow-new-privileges needs --user or --group")
        for pair in self.env:
            if pair.find("=") < 1 or "\0" in pair:
                raise UsageError(f"--env must be NAME=VALUE (got {pair!r})")
        _ = self.rescue_after
        self.signal_number()
        self.arguments([FIRST_FD + number for number in range(len(self.binds))], 1, 1)

    def _refuse_no_paths(self) -> None:
        for flag, path in (("chdir", self.chdir), ("env-file", self.env_file)):
            if "\0" in path:
                raise UsageError(f"--{flag} must be a path (got {shown(path)})")
        if self.metrics:
            ExportTarget.parse(self.metrics)
        named = self.cgroup not in {AUTO, OFF}
        if named and ("\0" in self.cgroup or not self.cgroup.startswith("/")):
            raise UsageError(
                f"--cgroup must be the path of a control group, auto or off (got"
                f" {shown(self.cgroup)})"
            )

    def _refuse_holding_for_nothing(self) -> None:
        for flag, given in (("carry-crash", self.carry_crash), ("keep-idle", self.keep_idle)):
            if given and self.carry == "off":
                raise UsageError(
                    f"--{flag} needs connections that can be carried: give --carry app, http or"
                    " auto with it"
                )

    def _refuse_idle_questions(self) -> None:
        ready, live = self.ready_question, self.live_question
        usual = {one.name: one.default for one in fields(Settings)}
        if ready is None and live is None:
            for name in ("ready_host", "ready_header", "ready_status"):
                if getattr(self, name) != usual[name]:
                    flag = name.replace("_", "-")
                    raise UsageError(f"--{flag} needs --ready-http or --live-http")
        if live is None:
            for name in ("live_every", "live_timeout", "live_failures"):
                if getattr(self, name) != usual[name]:
                    raise UsageError(f"--{name.replace('_', '-')} needs --live-http")
        if not 0 < self.live_timeout <= self.live_every:
            raise UsageError(
                "--live-timeout must be more than 0 and at most --live-every (got"
                f" {self.live_timeout:g} and {self.live_every:g})"
            )
        if not 1 <= self.live_failures <= _MOST_FAILURES:
            raise UsageError(
                f"--live-failures must be between 1 and {_MOST_FAILURES} (got {self.live_failures})"
            )

    @property
    def ready_question(self) -> Question | None:
        """What a worker must answer to be ready.  Raises UsageError."""
        return self._question("--ready-http", self.ready_http)

    @property
    def live_question(self) -> Question | None:
        """What a serving worker must go on answering.  Raises UsageError."""
        return self._question("--live-http", self.live_http)

    def _question(self, flag: str, path: str) -> Question | None:
        if not path:
            return None
        return Question.of(flag, path, self.ready_host, self.ready_header, self.ready_status)

    @property
    def limits(self) -> Limits:
        """The times and counts that the plan uses."""
        return Limits(
            ready_timeout=self.ready_timeout,
            idle_grace=self.idle_grace,
            drain_timeout=self.drain_timeout,
            stop_timeout=self.stop_timeout,
            start_retry=self.start_retry,
            stop_delay=self.stop_delay,
            stop_limit=self.stop_limit,
            crash_limit=self.crash_limit,
            crash_window=self.crash_window,
            stall_kill=self.stall_kill,
            live_every=self.live_every,
            live_failures=self.live_failures,
            max_lifetime=self.max_lifetime,
            max_rss=size(self.max_rss, "--max-rss"),
            max_connections=self.max_connections,
        )

    @property
    def wanted_engine(self) -> str:
        """The engine to ask for.  Only migrate runs a chosen program or counts by worker."""
        return "migrate" if self.program_choice or self.counting else self.engine

    @property
    def counting(self) -> str:
        """The setting that needs a count of each worker's connections, as a flag; "" for none."""
        if self.balance == "queue":
            return "--balance queue"
        return "--max-connections" if self.max_connections else ""

    @property
    def program_choice(self) -> ProgramChoice:
        """The program that selects.  Raises UsageError when two are given."""
        return ProgramChoice(self.policy, self.object)

    @property
    def rescue_after(self) -> float:
        """Seconds without an accept after which a worker counts as stalled.  0 means never.

        Raises UsageError if it is not a time.
        """
        return 0.0 if self.rescue == "off" else patience(self.rescue, "--rescue", ", or off")

    def v6only(self, address: Address) -> bool | None:
        """IPV6_V6ONLY of a listener here: yes beside an IPv4 one, else as the system says."""
        if address.family != socket.AF_INET6:
            return None
        ports = {one.address.port for one in self.binds if one.address.family == socket.AF_INET}
        return True if address.port in ports else None

    @property
    def instance_name(self) -> str:
        """The given name, or a name made from the first address."""
        return self.name or name_of(self.binds[0].address)

    def backlog_for(self, has: int, cap: int) -> int | None:
        """The backlog that a listener must get now; None if it may keep the one that it ``has``.

        A server may listen again with its own.  One that was asked for is kept.  The default only
        makes sure that a listener of the supervisor's has as much.  ``cap`` is net.core.somaxconn.
        """
        if self.backlog == BACKLOG and (has >= BACKLOG or self.bind_by == "worker"):
            return None
        return None if has == self.backlog or cap <= has < self.backlog else self.backlog

    def signal_number(self) -> int:
        """The number of the stop signal.  Raises UsageError for a signal that does not exist."""
        text = self.stop_signal.upper().removeprefix("SIG")
        try:
            number = int(text) if text.isdigit() else signal.Signals[f"SIG{text}"].value
            return signal.Signals(number).value
        except (KeyError, ValueError):
            raise UsageError(
                f"--stop-signal must be a signal such as TERM, QUIT or INT"
                f" (got {self.stop_signal!r})"
            ) from None

    def arguments(self, descriptors: Sequence[int], generation: int, worker: int) -> list[str]:
        """The command of this worker with its tokens filled in.

        ``{worker}`` and ``{generation}`` are their numbers.  The nth ``{fd}`` belongs to the nth
        bind, and so do the nth ``{host}`` and ``{port}``.  With a single bind, every ``{host}`` and
        ``{port}`` belongs to it.  Only these exact tokens are replaced: other braces may mean
        something to the command.  Raises UsageError for more tokens than binds.
        """
        seen = dict.fromkeys(("fd", "host", "port"), 0)
        numbers = {"worker": worker, "generation": generation}

        def value(found: re.Match[str]) -> str:
            token = found[1]
            if token in numbers:
                return str(numbers[token])
            number = seen[token]
            seen[token] += 1
            if token != "fd" and len(self.binds) == 1:
                number = 0
            if number >= len(self.binds):
                raise UsageError(
                    f"the command has more {{{token}}} than there are --bind options"
                    f" ({seen[token]} and {len(self.binds)})"
                )
            if token == "fd":
                if self.bind_by == "worker":
                    raise UsageError(
                        "the command has {fd}, but with --bind-by worker it gets no descriptor"
                    )
                return str(descriptors[number])
            address = self.binds[number].address
            return address.host if token == "host" else str(address.port)

        return [TOKEN.sub(value, argument) for argument in self.command]

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values, by field name."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {"binds": [f"{bind.name}={bind.address}" for bind in self.binds]}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Settings:
        """The settings that ``to_json`` wrote.  Fields that this version lacks are left out.

        Raises KeyError, TypeError, AttributeError or UsageError on foreign data.
        """
        binds = tuple(Bind.parse(text, n) for n, text in enumerate(plain["binds"]))
        return cls(
            binds,
            **{
                name: _value("the record", name, _HINTS[name], plain[name])
                for name in KEYS.values()
                if name in plain and name != "binds"
            },
        )


_HINTS = get_type_hints(Settings)

# segue.toml has the names of the flags; --bind may be given many times.
KEYS = {"bind": "binds"} | {
    one.name.replace("_", "-"): one.name for one in fields(Settings) if one.name != "binds"
}

# The values that a setting may have, where they are few.
CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(kind) for name, kind in _HINTS.items() if get_origin(kind) is Literal
}


def read_file(path: str) -> bytes:
    """The content of a file of settings.

    Raises UsageError if it cannot be read, if a user other than root and this one could have
    written it, and if it is too large.
    """
    try:
        with open(open_trusted(path), "rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LONGEST_FILE:
        raise UsageError(f"{path} is too large for settings: more than {_LONGEST_FILE} bytes")
    return data


def parse_toml(path: str, data: bytes) -> dict[str, Any]:
    """The file's values under the names of Settings' fields.

    Raises UsageError if it is not TOML, if a key is unknown (the error names the nearest known
    one), and if a value is of the wrong kind.
    """
    try:
        raw = tomllib.loads(data.decode())
    except RecursionError:
        raise UsageError(f"{path} is not TOML: its values are nested too deep") from None
    except ValueError as error:  # an integer of thousands of digits, too
        raise UsageError(f"{path} is not TOML: {error}") from None
    read: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key[:80], KEYS, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            if isinstance(value, dict):
                advice = "; the file has no sections: write settings at the top"
            raise UsageError(f"{path}: unknown key {shown(key)}{advice}")
        read[KEYS[key]] = _value(path, key, _HINTS[KEYS[key]], value)
    return read


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _value(path: str, key: str, kind: Any, value: Any) -> Any:
    """The value as the kind of its field.  Raises UsageError."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise UsageError(
                f"{path}: {key} must be one of {', '.join(choices)} (got {shown(value)})"
            )
        return value
    if get_origin(kind) is tuple:  # binds too: an address is written as a string
        many = [value] if isinstance(value, str) else value
        if not isinstance(many, list | tuple) or not all(isinstance(one, str) for one in many):
            raise UsageError(f"{path}: {key} must be a list of strings (got {shown(value)})")
        return tuple(many)
    right = isinstance(value, int | float if kind is float else kind)
    if isinstance(value, bool) and kind is not bool:  # a bool is an int in Python
        right = False
    if not right or (isinstance(value, int) and abs(value) >> 63):
        raise UsageError(f"{path}: {key} must be {_KINDS[kind]} (got {shown(value)})")
    return value
