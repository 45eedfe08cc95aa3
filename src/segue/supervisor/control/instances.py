"""The running instances that this user may ask: found by their files, or by their workers.

Whoever answers at a control socket must be the user whose directory it is in, by the kernel's word
(SO_PEERCRED).  So a link that another user plants leads to no supervisor of somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from segue.errors import UsageError
from segue.linux import openat, proc
from segue.supervisor.control import claims
from segue.supervisor.control.claims import Claim
from segue.supervisor.control.paths import NAME, answers
from segue.supervisor.control.places import Place, listening, places


@dataclass(frozen=True, slots=True)
class Running:
    """An instance to ask: its control socket, and the user who must answer there."""

    name: str
    control: str
    uid: int | None  # None for a socket that was named: this user or root; for root, anybody
    worker: int | None = None  # the process by whose environment it was found

    @property
    def own(self) -> bool:
        """It is this user's, as far as is known before it is asked."""
        return self.uid in {None, os.geteuid()}

    @property
    def where(self) -> str:
        """What a person must know who asks it; "" if it is where it was to be expected."""
        whose = "" if self.uid is None or self.own else f" of {openat.user(self.uid)}"
        how = "" if self.worker is None else f", which pid {self.worker} is a worker of"
        return f"{self.name}{whose} at {self.control}{how}" if whose or how else ""

    def may_answer(self, uid: int) -> bool:
        """True if it is this user who must answer."""
        if self.uid is not None:
            return uid == self.uid
        return os.geteuid() == 0 or uid in {0, os.geteuid()}


def instances() -> list[Running]:
    """The running instances of this user, and for root those of users that listen here.

    This user's are first.  Raises as ``places.directory``.
    """
    seen: set[tuple[int, int]] = set()
    found = [one for place in places() for one in _in(place, seen)]
    return sorted(found, key=lambda one: (not one.own, one.name))


def own(name: str) -> Running | None:
    """The running instance of this user with this name; None if there is none."""
    return next((one for one in instances() if one.own and one.name == name), None)


def _in(place: Place, seen: set[tuple[int, int]]) -> list[Running]:
    """The running instances there.

    Nothing of a directory that was ``seen`` by another path: two places may be one, such as /tmp
    and TMPDIR.
    """
    try:
        with place.open() as here:
            status = os.fstat(here.fileno())
            entries = [] if (status.st_dev, status.st_ino) in seen else here.names()
            seen.add((status.st_dev, status.st_ino))
    except (UsageError, OSError):
        return []  # another user's, or not there
    names = (entry.removesuffix(".sock") for entry in entries if entry.endswith(".sock"))
    return [
        Running(name, control, place.uid)
        for name in names
        if answers(control := f"{place.path}/{name}.sock", place.uid) and NAME.fullmatch(name)
    ]


def by_workers(name: str = "") -> list[Running]:
    """Running instances of this network namespace, by what the environment of their workers says.

    They may be in no place, such as one in a mount namespace of its own (PrivateTmp= of systemd),
    or with another SEGUE_DIRECTORY.
    """
    if os.environ.get("SEGUE_DIRECTORY"):
        return []
    users = askable()
    found: dict[str, Running] = {}
    for claim in claims.everywhere():
        if name in {"", claim.name}:
            one = supervised_by(claim, users)
            if one is not None:
                found.setdefault(one.control, one)
    return list(found.values())


def askable() -> frozenset[int]:
    """The users whose instances this one may ask: its own; for root, those that listen here too."""
    own = frozenset({os.geteuid()})
    return own | listening() if os.geteuid() == 0 else own


def supervised_by(claim: Claim, users: Collection[int]) -> Running | None:
    """The instance whose worker a process says that it is; None unless that is so.

    A process above it has locked the name, is one of these ``users``, is in this network namespace,
    and answers at the control socket.
    """
    supervisor = claims.supervisor(claim)
    uid = None if supervisor is None else proc.uid(supervisor)
    if supervisor is None or uid is None or uid not in users:
        return None
    try:
        if not proc.shares_namespace(supervisor, "net"):
            return None
        # The path is one of the supervisor's mount namespace.
        through = "" if proc.shares_namespace(supervisor, "mnt") else f"/proc/{supervisor}/root"
        place = Place(through + claim.directory, uid)
        place.open().close()
    except (UsageError, OSError):
        return None
    control = f"{place.path}/{claim.name}.sock"
    known = answers(control, uid, supervisor)
    return Running(claim.name, control, uid, claim.pid) if known else None
