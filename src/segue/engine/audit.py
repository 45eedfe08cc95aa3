"""What differs between the listeners of a reuseport group, and what a migrating connection notices.

A queued child is a whole socket already: it keeps everything of its source.  A half-open request
becomes a socket only at its target: it gets the options there, except what was settled by the SYN
(measured on Linux 6.18, option by option).  The kernel moves connections all the
same; the documentation of ``tcp_migrate_req`` (ip-sysctl.rst) warns that applications may crash.

Pure: options come in by cookie and name, findings go out.  ``segue.engine.examination`` reads them.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from segue.errors import UsageError

Value = int | str
Options = Mapping[str, Value]  # by the name of the constant, or one of those below
Holders = tuple[tuple[Value, tuple[int, ...]], ...]  # each value, and the cookies that have it

# What has no socket option of its own.
ADDRESS = "ADDRESS"
UID = "UID"
FILTER = "FILTER"  # SO_ATTACH_FILTER, or SO_ATTACH_BPF
BACKLOG = "BACKLOG"
MD5 = "TCP_MD5SIG"  # which can be set and not be read


class Level(Enum):
    """What is to be done about a difference."""

    REFUSE = "refused"  # there is no group, or connections can break
    WARN = "warned of"  # connections behave otherwise
    FINE = "fine"  # no connection notices


class OptionSource(Enum):
    """Whose option a half-open request has when it has migrated."""

    TARGET = "target"
    SOURCE = "source"
    NEITHER = ""  # no connection has it


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a difference in one option does to connections that migrate."""

    level: Level
    request: OptionSource
    effect: str


_APART = "they are not in one group, and no connection migrates from one to the other"
_DEAD = "when a peer that is gone is noticed differs"

# In the order in which findings are told within a level.
MEANINGS: dict[str, Meaning] = {
    "SO_REUSEPORT": Meaning(
        Level.REFUSE,
        OptionSource.NEITHER,
        "no further listener can join while one has it off: segue adopt turns it on",
    ),
    UID: Meaning(Level.REFUSE, OptionSource.NEITHER, f"listeners of different users: {_APART}"),
    "IPV6_V6ONLY": Meaning(
        Level.REFUSE, OptionSource.NEITHER, f"one takes IPv4 too, the other does not: {_APART}"
    ),
    "SO_BINDTODEVICE": Meaning(
        Level.REFUSE, OptionSource.NEITHER, f"bound to different interfaces: {_APART}"
    ),
    ADDRESS: Meaning(
        Level.WARN,
        OptionSource.NEITHER,
        f"listeners of one port at two addresses: {_APART}",
    ),
    FILTER: Meaning(
        Level.REFUSE,
        OptionSource.TARGET,
        "packets that one filter lets pass are dropped by the other, and a child keeps its"
        " source's filter as long as it lives",
    ),
    MD5: Meaning(
        Level.REFUSE,
        OptionSource.TARGET,
        "a peer that signs its segments is not heard where its key is missing, and waits",
    ),
    "TCP_SAVE_SYN": Meaning(
        Level.REFUSE,
        OptionSource.SOURCE,
        "a server that asks for the saved SYN finds none on a connection that came by a listener"
        " without it",
    ),
    "TCP_DEFER_ACCEPT": Meaning(
        Level.REFUSE,
        OptionSource.TARGET,
        "where it is off a server may speak first, which a client then waits for; where it is on"
        " a server may count on data that has not come",
    ),
    "SO_RCVLOWAT": Meaning(
        Level.REFUSE,
        OptionSource.TARGET,
        "a server that does not know of the higher one is not woken by fewer bytes, and waits",
    ),
    "TCP_FASTOPEN": Meaning(
        Level.WARN,
        OptionSource.NEITHER,
        "each Fast Open child that migrates lets the target take one more than its limit",
    ),
    "TCP_NODELAY": Meaning(
        Level.WARN, OptionSource.TARGET, "where it is off, small answers can wait 40 ms for an ACK"
    ),
    "TCP_QUICKACK": Meaning(Level.WARN, OptionSource.TARGET, "when data is acknowledged differs"),
    "SO_KEEPALIVE": Meaning(Level.WARN, OptionSource.TARGET, _DEAD),
    "TCP_KEEPIDLE": Meaning(Level.WARN, OptionSource.TARGET, _DEAD),
    "TCP_KEEPINTVL": Meaning(Level.WARN, OptionSource.TARGET, _DEAD),
    "TCP_KEEPCNT": Meaning(Level.WARN, OptionSource.TARGET, _DEAD),
    "TCP_USER_TIMEOUT": Meaning(Level.WARN, OptionSource.TARGET, _DEAD),
    "TCP_LINGER2": Meaning(
        Level.WARN,
        OptionSource.TARGET,
        "how long a closed connection waits for the peer's FIN differs",
    ),
    "TCP_NOTSENT_LOWAT": Meaning(
        Level.WARN, OptionSource.TARGET, "how much unsent data makes it unwritable differs"
    ),
    "SO_RCVBUF": Meaning(Level.WARN, OptionSource.TARGET, "how much may come in unread differs"),
    "SO_SNDBUF": Meaning(Level.WARN, OptionSource.TARGET, "how much may be written ahead differs"),
    "SO_OOBINLINE": Meaning(Level.WARN, OptionSource.TARGET, "where urgent data is read differs"),
    "SO_BUSY_POLL": Meaning(Level.WARN, OptionSource.TARGET, "how long a read polls differs"),
    "SO_MAX_PACING_RATE": Meaning(Level.WARN, OptionSource.TARGET, "how fast it may send differs"),
    "TCP_CONGESTION": Meaning(Level.WARN, OptionSource.TARGET, "how it shares the network differs"),
    "IP_TOS": Meaning(Level.WARN, OptionSource.TARGET, "how routers treat its packets differs"),
    "IP_TTL": Meaning(Level.WARN, OptionSource.TARGET, "how far its packets go differs"),
    "IPV6_TCLASS": Meaning(
        Level.WARN, OptionSource.TARGET, "how routers treat its packets differs"
    ),
    "IPV6_UNICAST_HOPS": Meaning(Level.WARN, OptionSource.TARGET, "how far its packets go differs"),
    "SO_MARK": Meaning(
        Level.WARN,
        OptionSource.SOURCE,
        "firewall and routing rules go on by its old listener's mark",
    ),
    "TCP_MAXSEG": Meaning(
        Level.WARN, OptionSource.SOURCE, "the largest segment was settled by the SYN"
    ),
    "TCP_WINDOW_CLAMP": Meaning(
        Level.WARN, OptionSource.SOURCE, "the largest window was settled by the SYN"
    ),
    BACKLOG: Meaning(
        Level.FINE,
        OptionSource.NEITHER,
        "a queued child asks for no room at its target, a half-open request waits for it",
    ),
    "SO_PRIORITY": Meaning(Level.FINE, OptionSource.NEITHER, "connections do not inherit it"),
    "SO_INCOMING_CPU": Meaning(Level.FINE, OptionSource.NEITHER, "connections do not inherit it"),
}
_CLAMP = "TCP_WINDOW_CLAMP"
# What, with the address, makes a group (inet_reuseport_add_sock): the rest is only compared
# within one.
_IDENTITY = (UID, "IPV6_V6ONLY", "SO_BINDTODEVICE")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One option that differs, or that no group can have."""

    name: str
    level: Level
    request: OptionSource
    effect: str
    holders: Holders
    allowed: bool = False

    @property
    def matters(self) -> bool:
        """It is refused or warned of, and not allowed."""
        return self.level is not Level.FINE and not self.allowed


def audit(options: Mapping[int, Options], allow: Collection[str] = ()) -> tuple[Mismatch, ...]:
    """Whatever differs between listeners, named by cookie, the gravest first.

    The address that is asked about is the first listener's; of those at another one only that is
    found.  What ``allow`` names is found all the same and does not matter.  An option that one of
    two listeners has not at all is not compared.  Raises UsageError for a name in ``allow`` that
    no finding can have.
    """
    _refuse_unknown(allow)
    found = _differences([ADDRESS], options, allow)
    asked = {
        cookie: one
        for cookie, one in options.items()
        if one[ADDRESS] == next(iter(options.values()))[ADDRESS]
    }
    if not all(one["SO_REUSEPORT"] for one in asked.values()):
        found.append(_mismatch("SO_REUSEPORT", _holders("SO_REUSEPORT", asked), allow))
    found += _differences(_IDENTITY, asked, allow)
    groups: dict[tuple[Value | None, ...], dict[int, Options]] = {}
    for cookie, one in asked.items():
        groups.setdefault(tuple(map(one.get, _IDENTITY)), {})[cookie] = one
    rest = [name for name in MEANINGS if name not in {ADDRESS, "SO_REUSEPORT", *_IDENTITY}]
    for members in groups.values():
        told = [name for name in rest if name != _CLAMP or not _by_buffer(members)]
        found += _differences(told, members, allow)
    gravity = list(Level)
    return tuple(sorted(found, key=lambda one: gravity.index(one.level)))


def _by_buffer(members: Mapping[int, Options]) -> bool:
    """Whether their window clamps differ only because their SO_RCVBUF does.

    From Linux 7.2 on, setting SO_RCVBUF sets the clamp too, to half of what SO_RCVBUF then reads.
    """
    clamps = [(one.get(_CLAMP, 0), one.get("SO_RCVBUF", 0)) for one in members.values()]
    follow = all(clamp in {0, int(buffer) // 2} for clamp, buffer in clamps)
    return follow and len(_holders("SO_RCVBUF", members)) > 1


def _differences(
    names: Iterable[str], options: Mapping[int, Options], allow: Collection[str]
) -> list[Mismatch]:
    differing = [(name, holders) for name in names if len(holders := _holders(name, options)) > 1]
    return [_mismatch(name, holders, allow) for name, holders in differing]


def _holders(name: str, options: Mapping[int, Options]) -> Holders:
    values: dict[Value, list[int]] = {}
    for cookie, one in options.items():
        if name in one:
            values.setdefault(one[name], []).append(cookie)
    return tuple((value, tuple(cookies)) for value, cookies in values.items())


def _mismatch(name: str, holders: Holders, allow: Collection[str]) -> Mismatch:
    meaning = MEANINGS[name]
    level = meaning.level
    if name == "TCP_DEFER_ACCEPT" and all(value for value, _ in holders):
        level = Level.WARN  # on everywhere, and only for how long differs
    return Mismatch(name, level, meaning.request, meaning.effect, holders, name in allow)


def _refuse_unknown(allow: Collection[str]) -> None:
    for name in allow:
        if name not in MEANINGS:
            near = difflib.get_close_matches(name.upper(), MEANINGS, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(MEANINGS)}"
            raise UsageError(f"{name!r} is not an option that segue audit compares; {advice}")
