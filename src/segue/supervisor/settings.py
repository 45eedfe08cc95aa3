"""What ``segue run`` was asked for: flags, environment and segue.toml, checked once.

Every default is argued beside it.  Checking never binds or listens: a short-lived listener on a
live port would take connections with it to its grave.
"""

from __future__ import annotations

import difflib
import re
import signal
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from segue.address import Address
from segue.engine.programs import ProgramChoice
from segue.errors import UsageError
from segue.linux import capability
from segue.linux.openat import open_trusted
from segue.observe.stall import PATIENCE
from segue.supervisor.control.paths import NAME, check_name, name_of
from segue.supervisor.lifecycle.plan import Limits

TOKEN = re.compile(r"\{(fd|host|port)\}")
_LONGEST_FILE = 1 << 16  # bytes of a segue.toml
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
LONGEST = 86400.0  # seconds; more than a day is a mistake
FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def patience(text: str, flag: str, more: str = ",") -> float:
    """Seconds after which a worker counts as stalled; ``flag`` and ``more`` are for the error.

    Raises UsageError for what is no time, or a senseless one.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise UsageError(f"{flag} is a time such as 50ms or 1s{more} not {text!r}")
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    if not 0.01 <= seconds <= 60:
        raise UsageError(f"{flag} is 10ms to 60s{more} not {text}")
    return seconds


@dataclass(frozen=True, slots=True)
class Bind:
    """One address to serve, and the name it has in LISTEN_FDNAMES."""

    name: str
    address: Address

    @classmethod
    def parse(cls, text: str, number: int) -> Bind:
        """Read ADDRESS or NAME=ADDRESS; the name is ``bind0``, ``bind1``... if not given."""
        name, equals, address = text.rpartition("=")
        if equals and not NAME.fullmatch(name):
            raise UsageError(f"{text!r}: {name!r} is no name for a listener (letters, digits, ._-)")
        return cls(name or f"bind{number}", Address.parse(address))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run is made of; times in seconds."""

    binds: tuple[Bind, ...]
    command: tuple[str, ...]
    name: str = ""
    workers: int = 1
    bind_by: Literal["supervisor", "worker"] = "supervisor"
    inject: bool = False  # SO_REUSEPORT for workers that bind and do not set it
    beside: bool = False  # whoever shares the address already is no reason to refuse
    engine: Literal["auto", "migrate", "hash", "drain"] = "auto"
    # A compiled BPF object whose program selects, in place of the built-in one.
    object: str = ""
    # FILE.py:NAME or one of the library's, in its place too.
    policy: str = ""
    # Both proofs together: the worker accepts, and has said READY=1 if it speaks sd_notify at all.
    ready: Literal["auto", "notify", "accept"] = "auto"
    ready_http: str = ""
    # A minute is what slow imports and migrations take; gunicorn's and Kubernetes' defaults are
    # shorter and are the first thing that people raise.
    ready_timeout: float = 60.0
    # Longer than a client's pause between two requests of one page, shorter than one's patience.
    idle_grace: float = 1.0
    # gunicorn's graceful_timeout and Kubernetes' grace period are 30 s.
    drain_timeout: float = 30.0
    # From the stop signal to SIGKILL; the worker is quiet by then, or past its drain limit.
    stop_timeout: float = 10.0
    # How long the old generation is kept after the flip, for a rollback.
    keep: float = 0.0
    stop_signal: str = "TERM"
    user: str = ""
    group: str = ""
    # Of the supervisor's: that it may load programs is no reason for a worker to.
    keep_capability: tuple[str, ...] = field(default=())
    allow_new_privileges: bool = False  # with user or group: set-user-ID programs work
    # Above the 511 and 1024 that servers choose; somaxconn (4096) still caps it.
    backlog: int = 2048
    nodelay: bool = True
    output: Literal["prefix", "json", "raw"] = "prefix"
    # Ten deaths a minute with nobody serving is a program that does not work here.
    crash_limit: int = 10
    crash_window: float = 60.0
    rescue: str = PATIENCE
    # Who stalls may be about to answer what it has accepted: to end it is somebody's decision.
    stall_kill: float = 0.0
    # Shares that change by themselves are wanted where workers differ, and a surprise elsewhere.
    balance: Literal["off", "queue"] = "off"
    env: tuple[str, ...] = field(default=())

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
            raise UsageError("--inject is for workers that bind: give --bind-by worker too")
        if not 1 <= self.workers <= 512:
            raise UsageError(f"--workers is 1 to 512, not {self.workers}")
        if not 1 <= self.backlog < 1 << 31:  # an int of listen(2)
            raise UsageError(f"--backlog is 1 to {(1 << 31) - 1}, not {self.backlog}")
        if self.crash_limit < 1:
            raise UsageError(f"--crash-limit is at least 1, not {self.crash_limit}")
        for limit in ("ready_timeout", "drain_timeout", "stop_timeout", "crash_window"):
            if not 0 < getattr(self, limit) < LONGEST:
                raise UsageError(f"--{limit.replace('_', '-')} is above 0 and below a day")
        for limit in ("idle_grace", "keep", "stall_kill"):
            if not 0 <= getattr(self, limit) < LONGEST:
                raise UsageError(f"--{limit.replace('_', '-')} is at least 0 and below a day")
        if self.ready_http and not self.ready_http.startswith("/"):
            raise UsageError(f"--ready-http is a path such as /health, not {self.ready_http!r}")
        if self.name:
            check_name(self.name)
        if self.program_choice and self.engine not in {"auto", "migrate"}:
            raise UsageError(
                f"{self.program_choice} is for the engine migrate, and --engine says {self.engine}"
            )
        if self.balance == "queue" and self.engine not in {"auto", "migrate"}:
            raise UsageError(
                f"--balance queue needs the counters of the engine migrate, and --engine says"
                f" {self.engine}"
            )
        capability.bits(self.keep_capability)
        if self.allow_new_privileges and not (self.user or self.group):
            raise UsageError(
                "--allow-new-privileges is for workers of another user: give --user or --group too"
            )
        for pair in self.env:
            if pair.find("=") < 1 or "\0" in pair:
                raise UsageError(f"--env {pair!r}: write NAME=VALUE")
        _ = self.rescue_after
        self.signal_number()
        self.arguments([FIRST_FD + number for number in range(len(self.binds))])

    @property
    def limits(self) -> Limits:
        """The times and counts that the plan goes by."""
        return Limits(
            ready_timeout=self.ready_timeout,
            idle_grace=self.idle_grace,
            drain_timeout=self.drain_timeout,
            stop_timeout=self.stop_timeout,
            crash_limit=self.crash_limit,
            crash_window=self.crash_window,
            stall_kill=self.stall_kill,
        )

    @property
    def wanted_engine(self) -> str:
        """The engine to ask for: only one runs a program that is chosen, or counts by worker."""
        return "migrate" if self.program_choice or self.balance == "queue" else self.engine

    @property
    def program_choice(self) -> ProgramChoice:
        """The program that selects.  Raises UsageError when two are given."""
        return ProgramChoice(self.policy, self.object)

    @property
    def rescue_after(self) -> float:
        """Seconds without an accept after which a worker counts as stalled; 0 for never.

        Raises UsageError for what is no time.
        """
        return 0.0 if self.rescue == "off" else patience(self.rescue, "--rescue", ", or off,")

    @property
    def instance_name(self) -> str:
        """The given name, or one of the first address."""
        return self.name or name_of(self.binds[0].address)

    def signal_number(self) -> int:
        """The stop signal as a number.  Raises UsageError for a signal that does not exist."""
        text = self.stop_signal.upper().removeprefix("SIG")
        try:
            number = int(text) if text.isdigit() else signal.Signals[f"SIG{text}"].value
            return signal.Signals(number).value
        except (KeyError, ValueError):
            raise UsageError(
                f"--stop-signal {self.stop_signal!r} is no signal (such as TERM, QUIT or INT)"
            ) from None

    def arguments(self, descriptors: Sequence[int]) -> list[str]:
        """The command with ``{fd}``, ``{host}`` and ``{port}`` filled in.

        The nth ``{fd}`` is the nth bind's; so are ``{host}`` and ``{port}``, except that with a
        single bind they all mean that one.  Only these exact tokens are replaced, so braces that
        mean something to the command stay.  Raises UsageError for more tokens than binds.
        """
        seen = dict.fromkeys(("fd", "host", "port"), 0)

        def value(found: re.Match[str]) -> str:
            token = found[1]
            number = seen[token]
            seen[token] += 1
            if token != "fd" and len(self.binds) == 1:
                number = 0
            if number >= len(self.binds):
                raise UsageError(
                    f"the command has more {{{token}}} than there are --bind"
                    f" ({seen[token]} and {len(self.binds)})"
                )
            if token == "fd":
                if self.bind_by == "worker":
                    raise UsageError("{fd} in the command, but with --bind-by worker it has none")
                return str(descriptors[number])
            address = self.binds[number].address
            return address.host if token == "host" else str(address.port)

        return [TOKEN.sub(value, argument) for argument in self.command]

    def to_json(self) -> dict[str, Any]:
        """Plain values, the same names as the keys of segue.toml."""
        return {
            **asdict(self),
            "binds": [f"{bind.name}={bind.address}" for bind in self.binds],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Settings:
        """The settings that ``to_json`` wrote down, without what another version had beside.

        Raises KeyError, TypeError, AttributeError or UsageError on foreign data.
        """
        kinds = {one.name: str(one.type) for one in fields(cls) if one.name != "binds"}
        binds = tuple(Bind.parse(text, n) for n, text in enumerate(plain["binds"]))
        return cls(
            binds,
            **{
                name: _value("the record", name, kind, plain[name])
                for name, kind in kinds.items()
                if name in plain
            },
        )


# segue.toml has the names of the flags; --bind may be given many times.
KEYS = {"bind": "binds"} | {
    one.name.replace("_", "-"): one.name for one in fields(Settings) if one.name != "binds"
}


def read_toml(path: str) -> dict[str, Any]:
    """The file's values under the names of Settings' fields.

    Raises UsageError when it cannot be read, others than root and this user could have written it,
    is no TOML, has an unknown key (naming the nearest known one) or a value of the wrong kind.
    """
    try:
        with open(open_trusted(path), "rb") as file:
            text = file.read(_LONGEST_FILE + 1)
        if len(text) > _LONGEST_FILE:
            raise UsageError(f"{path} has more than {_LONGEST_FILE} bytes, as no settings have")
        raw = tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UsageError(f"{path} is not TOML: its values are nested too deep") from None
    except ValueError as error:  # an integer of thousands of digits, too
        raise UsageError(f"{path} is not TOML: {error}") from None
    kinds = {one.name: one.type for one in fields(Settings)}
    read: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key[:80], KEYS, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            if isinstance(value, dict):
                advice = "; the file has no sections, its settings stand at the top"
            raise UsageError(f"{path}: unknown key {_shown(key)}{advice}")
        read[KEYS[key]] = _value(path, key, str(kinds[KEYS[key]]), value)
    return read


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string"}


def _shown(value: Any) -> str:
    """A value in a sentence: its beginning, if it is long."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of thousands of digits"


def _value(path: str, key: str, kind: str, value: Any) -> Any:
    many = kind.startswith("tuple")
    if many and isinstance(value, str):
        value = [value]
    right = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
    }.get(kind, isinstance(value, str))
    if many:
        right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    if kind.startswith("Literal"):
        choices = re.findall(r"[\"'](\w+)[\"']", kind)
        if value not in choices:
            raise UsageError(f"{path}: {key} is one of {', '.join(choices)}, not {_shown(value)}")
    elif not right or (isinstance(value, int) and abs(value) >> 63):
        wanted = "a list of strings" if many else _KINDS.get(kind, kind)
        raise UsageError(f"{path}: {key} is {wanted}, not {_shown(value)}")
    return tuple(value) if many else value
