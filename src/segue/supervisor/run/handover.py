"""Everything that new code needs to go on in the same process: typed, versioned, tried beforehand.

Descriptors are kept over exec(2); the rest is written into a memfd.  The new code reads all of it
once *before* the exec, as ``segue run --check``, so that a version that wants another handover says
so while there is a way back.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from segue import strict_json
from segue.errors import SegueError, UsageError
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.run.record import UNREADABLE, Record
from segue.supervisor.run.service import Unclaimed
from segue.supervisor.run.waiting import Handed
from segue.supervisor.settings import Settings
from segue.supervisor.source import Source

VERSION = 1  # grows when an earlier version's handover cannot be gone on with
VARIABLE = "SEGUE_HANDOVER"  # the number of the memfd, over exec
MEMORY = "segue"  # and its name
_LONGEST = 1 << 26  # bytes, some times what 512 workers at ten addresses are


@dataclass(frozen=True, slots=True)
class HandedFront:
    """One address: descriptors of its listeners by slot, and of the steering by name."""

    listeners: dict[int, int]
    steering: dict[str, int]
    opened: tuple[int, ...]  # cookies of listeners that this instance opened
    ours: dict[int, int]  # questions to serving workers so far, by slot
    standby: bool = False  # a service manager has one of the listeners
    stored: bool = False  # and only keeps it for us


@dataclass(frozen=True, slots=True)
class HandedWorker:
    """One worker's process: its pidfd, and what it prints into."""

    pidfd: int
    pipe: int | None = None
    begun: str = ""  # a line that was read in part, as latin-1


@dataclass(frozen=True, slots=True)
class Handover:
    """One instance between two codes.  Numbers are descriptors where nothing else is said."""

    record: Record  # with the settings as the new code is to follow them
    before: Settings  # as they were followed so far
    nudge: bool
    reasons: tuple[str, ...]
    files: tuple[int, int] | None  # RLIMIT_NOFILE of workers
    clients: tuple[Handed, ...]
    moved: int
    cut: int
    exit_code: int
    lock: int | None
    control: int | None
    inbox: int | None
    fronts: tuple[HandedFront, ...]
    workers: dict[int, HandedWorker]
    unclaimed: tuple[Unclaimed, ...]
    leftovers: Any  # as ``Leftovers.to_json`` has them
    source: Source | None = None  # of the record's settings; earlier versions did not say
    # Of kept connections: those that were carried, of these with an unread request, and lost.
    carried: tuple[int, int, int] = (0, 0, 0)

    def descriptors(self) -> Iterator[int]:
        """Every descriptor that has to stay open over exec."""
        yield from (one for one in (self.lock, self.control, self.inbox) if one is not None)
        yield from (one.descriptor for one in self.clients)
        for front in self.fronts:
            yield from front.listeners.values()
            yield from front.steering.values()
        for worker in self.workers.values():
            yield worker.pidfd
            if worker.pipe is not None:
                yield worker.pipe

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "version": VERSION,
            "record": self.record.to_json(),
            "before": self.before.to_json(),
            "nudge": self.nudge,
            "reasons": list(self.reasons),
            "files": None if self.files is None else list(self.files),
            "clients": [one.to_json() for one in self.clients],
            "moved": self.moved,
            "carried": list(self.carried),
            "cut": self.cut,
            "exit_code": self.exit_code,
            "lock": self.lock,
            "control": self.control,
            "inbox": self.inbox,
            "fronts": [
                {
                    "listeners": {str(slot): fd for slot, fd in one.listeners.items()},
                    "steering": one.steering,
                    "opened": list(one.opened),
                    "ours": {str(slot): count for slot, count in one.ours.items()},
                    "standby": one.standby,
                    "stored": one.stored,
                }
                for one in self.fronts
            ],
            "workers": {
                str(number): {"pidfd": one.pidfd, "pipe": one.pipe, "begun": one.begun}
                for number, one in self.workers.items()
            },
            "unclaimed": [asdict(one) for one in self.unclaimed],
            "leftovers": self.leftovers,
            "source": None if self.source is None else self.source.to_json(),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Handover:
        """The handover that ``to_json`` made.

        Raises SegueError when it is of another version, or cannot be understood.
        """
        version = plain.get("version")
        if version != VERSION:
            raise SegueError(
                f"the running supervisor hands over in version {version!s:.20}, and this code"
                f" reads version {VERSION}: stop the instance and start it anew"
            )
        try:
            return cls._read(plain)
        except UNREADABLE as error:
            raise SegueError(
                "what the running supervisor hands over cannot be read by this code"
                f" ({type(error).__name__}: {error!s:.100})"
            ) from error

    @classmethod
    def _read(cls, plain: dict[str, Any]) -> Handover:
        files = plain["files"]
        carried, unread, lost = plain.get("carried", (0, 0, 0))  # earlier versions carried none
        return cls(
            record=Record.from_json(plain["record"], "the handover"),
            before=Settings.from_json(plain["before"]),
            nudge=bool(plain["nudge"]),
            reasons=tuple(plain["reasons"]),
            files=None if files is None else (int(files[0]), int(files[1])),
            clients=tuple(Handed.from_json(one) for one in plain["clients"]),
            moved=int(plain["moved"]),
            cut=int(plain["cut"]),
            exit_code=int(plain["exit_code"]),
            lock=plain["lock"],
            control=plain["control"],
            inbox=plain["inbox"],
            fronts=tuple(
                HandedFront(
                    {int(slot): int(fd) for slot, fd in one["listeners"].items()},
                    {str(name): int(fd) for name, fd in one["steering"].items()},
                    tuple(one["opened"]),
                    # Earlier versions asked none.
                    {int(slot): int(count) for slot, count in one.get("ours", {}).items()},
                    bool(one.get("standby", False)),
                    bool(one.get("stored", False)),
                )
                for one in plain["fronts"]
            ),
            workers={
                int(number): HandedWorker(one["pidfd"], one["pipe"], one["begun"])
                for number, one in plain["workers"].items()
            },
            unclaimed=tuple(
                Unclaimed(
                    **{**one, "listeners": tuple(HeldListener(**it) for it in one["listeners"])}
                )
                for one in plain["unclaimed"]
            ),
            leftovers=plain["leftovers"],
            carried=(int(carried), int(unread), int(lost)),
            source=None if plain.get("source") is None else Source.from_json(plain["source"]),
        )

    def write(self) -> int:
        """A memfd with all of this, the caller's to close; it is closed on exec.

        Raises OSError.
        """
        memory = os.memfd_create(MEMORY, os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(json.dumps(self.to_json()).encode())
        except BaseException:
            os.close(memory)
            raise
        return memory


def handed_over() -> dict[str, Any] | None:
    """What a predecessor in this process handed over, as it was written; None for nothing.

    It is empty if it cannot be read, and ``Handover.from_json`` refuses that.  Raises UsageError
    where the environment names what no predecessor can have left.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return None
    # Only ``Handover.write`` makes such a file, and a number of somebody else's may be any file.
    what = ""
    if number.isascii() and number.isdecimal() and len(number) < 10:
        with contextlib.suppress(OSError):
            what = os.readlink(f"/proc/self/fd/{number}")
    if not what.startswith(f"/memfd:{MEMORY} "):
        raise UsageError(
            f"{VARIABLE} is in the environment, and is not what a supervisor hands over: unset it"
        )
    with open(int(number), "rb") as file:
        file.seek(0)
        data = file.read(_LONGEST)
    try:
        plain = strict_json.loads(data)
    except ValueError:
        plain = None
    return plain if isinstance(plain, dict) else {}
