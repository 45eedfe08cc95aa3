"""The engine that migrates: our program in the kernel, a table of shares, flipped in one write.

Needs Linux 5.14 and CAP_BPF; the sysctl net.ipv4.tcp_migrate_req is neither needed nor touched.
What is in force stays in force without this process: the program goes only with the last member
of the group, and the maps with the program.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from segue.engine.steering import NO_SLOT
from segue.errors import KernelError, UsageError
from segue.linux.bpf import Descriptor, Program, attach_reuseport
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map, possible_cpus
from segue.policy import builtin
from segue.policy.builtin import encode_number
from segue.policy.counts import Counts
from segue.shares import SIZE, fill, quotas

# What a crashed supervisor's program held is freed by a kernel worker after a grace period: mostly
# 16 to 17 ms, 31 at most in 60 tries (measured on 6.18).  The rest is for a starved machine.
FREED_WITHIN = 2.0
_LOOK_AGAIN = 0.002
# Tables remembered: one with everybody, and one without each of a few workers that stall in turn.
_TABLES = 8


class Migrate:
    """Steering of one group by the built-in program; owns its maps and the program."""

    name = "migrate"
    migrates = True
    by_index = False

    def __init__(self) -> None:
        """Make the maps and load the program; nothing is attached yet.

        Until the first ``share`` the kernel's own hash decides.  Raises KernelError (EPERM
        without CAP_BPF), VerifierError.
        """
        self._owned: dict[str, Descriptor] = {}
        try:
            self._sockets = self._create(
                "sockets",
                MapType.REUSEPORT_SOCKARRAY,
                builtin.SOCKET_BYTES,
                builtin.SLOTS,
            )
            self._tables = self._create("tables", MapType.ARRAY, builtin.TABLE_BYTES, 2)
            self._control = self._create("control", MapType.ARRAY, builtin.CONTROL_BYTES, 1)
            self._pins = self._create("pins", MapType.HASH, builtin.PIN_BYTES, builtin.PINS)
            self._counters = self._create(
                "counters", MapType.PERCPU_ARRAY, builtin.COUNTER_BYTES, builtin.SLOTS + 1
            )
            for copy in (0, 1):
                self._tables.update(encode_number(copy), builtin.EMPTY_TABLE)
            maps = builtin.Maps(
                sockets=self._sockets.fileno(),
                tables=self._tables.fileno(),
                control=self._control.fileno(),
                pins=self._pins.fileno(),
                counters=self._counters.fileno(),
            )
            self._program = Program.load(builtin.program(maps), name="segue", maps=maps.names())
            self._owned["program"] = self._program
        except BaseException:
            self.close()
            raise
        self._slots: set[int] = set()
        self._weights: dict[int, float] = {}
        self._filled: dict[frozenset[tuple[int, float]], list[int]] = {}

    def _create(self, name: str, kind: MapType, value_size: int, entries: int) -> Map:
        made = Map.create(kind, value_size=value_size, entries=entries, name=f"segue_{name}")
        self._owned[name] = made
        return made

    @classmethod
    def restore(cls, descriptors: Mapping[str, int]) -> Migrate:
        """The same steering after a re-exec, from what ``descriptors`` said before it.

        Slots, shares, pins and counts are as they were: do not ``join`` a listener again.  A
        listener that was shut down meanwhile is no member until ``rejoin``.  Owns the descriptors
        from the call on, makes them close on exec again, and closes them when it raises:
        UsageError when they are not those of a Migrate, KernelError when one is no map.
        """
        self = cls.__new__(cls)
        self._owned = {name: Descriptor(number) for name, number in descriptors.items()}
        try:
            for number in descriptors.values():
                os.set_inheritable(number, False)
            self._sockets = self._adopt("sockets", MapType.REUSEPORT_SOCKARRAY)
            self._tables = self._adopt("tables", MapType.ARRAY, builtin.TABLE_BYTES)
            self._control = self._adopt("control", MapType.ARRAY)
            self._pins = self._adopt("pins", MapType.HASH)
            self._counters = self._adopt("counters", MapType.PERCPU_ARRAY, builtin.COUNTER_BYTES)
            self._program = Program(self._taken("program").fileno())
            self._owned["program"] = self._program
            self._slots = {slot for slot in range(builtin.SLOTS) if self._present(slot)}
            shared = Counter(self._table())
            self._weights = {slot: count for slot, count in shared.items() if slot in self._slots}
            self._filled = {}
        except BaseException:
            self.close()
            raise
        return self

    def _taken(self, name: str) -> Descriptor:
        if name not in self._owned:
            raise UsageError(f"no descriptor {name!r} to restore the engine from")
        return self._owned[name]

    def _adopt(self, name: str, kind: MapType, value_size: int = 0) -> Map:
        adopted = Map.adopt(self._taken(name).fileno())
        self._owned[name] = adopted
        if adopted.kind is not kind or value_size not in {0, adopted.value_size}:
            raise UsageError(f"descriptor {name!r} is another map than this version of Segue makes")
        return adopted

    def join(self, slot: int, listener: socket.socket) -> None:
        """As in Steering; the first member, and the first after all are gone, attaches the program.

        When a crashed supervisor's program still has the listener, its program is replaced by ours
        and its array waited for, at most FREED_WITHIN seconds.  Raises KernelError: EINVAL when
        the socket is not listening with SO_REUSEPORT, EBUSY when a living program keeps it.
        """
        if not 0 <= slot < builtin.SLOTS:
            raise UsageError(f"slots are 0 to {builtin.SLOTS - 1}, not {slot}")
        if slot in self._slots:
            raise UsageError(f"slot {slot} has a listener already")
        emptied = not any(self._present(one) for one in self._slots)
        key = encode_number(slot)
        self._counters.update_percpu(key, [builtin.NO_COUNTS] * possible_cpus())
        self._put(slot, listener)
        try:
            if emptied:
                self.attach(listener)
        except BaseException:
            self._sockets.delete(key)
            raise
        self._slots.add(slot)
        self._filled.clear()

    def attach(self, listener: socket.socket) -> None:
        """Our program decides for this listener's group, whatever did before.  Raises KernelError.

        The kernel drops a program with the last member of its group, so this is for a group that
        emptied behind our back; doing it again does nothing.
        """
        attach_reuseport(listener.fileno(), self._program.fileno())

    def share(self, weights: Mapping[int, float]) -> None:
        """As in Steering.  A member whose listener was shut down gets its share when it rejoins."""
        strangers = sorted(slot for slot in weights if slot not in self._slots)
        if strangers:
            raise UsageError(f"slot {strangers[0]} has no listener, so it can have no share")
        quotas(weights)  # refuses senseless weights before anything changes
        self._weights = {slot: weight for slot, weight in weights.items() if weight > 0}
        self._flip()

    def pin(self, port: int, slot: int) -> None:
        """As in Steering.  Raises KernelError: E2BIG beyond 64 pins."""
        if slot not in self._slots:
            raise UsageError(f"slot {slot} has no listener, so port {port} cannot be pinned to it")
        if not 0 < port < 65536:
            raise UsageError(f"{port} is no port")
        self._pins.update(encode_number(port), encode_number(slot))

    def unpin(self, port: int) -> None:
        """As in Steering."""
        self._pins.delete(encode_number(port))

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        """As in Steering; also attaches the program, which the only member of a group loses."""
        if slot not in self._slots:
            raise UsageError(f"slot {slot} never joined")
        self._put(slot, listener)
        self.attach(listener)
        if slot in self._weights:
            self._flip()

    def leave(self, slot: int, listener: socket.socket) -> None:
        """As in Steering.  Its share goes to the others in proportion, its pins are forgotten."""
        with listener:
            self._forget(slot)

    def _forget(self, slot: int) -> None:
        if slot not in self._slots:
            return
        self._slots.remove(slot)
        self._filled.clear()
        if self._weights.pop(slot, 0):
            self._flip()
        for port in list(self._pins.keys()):
            if self._pins.lookup(port) == encode_number(slot):
                self._pins.delete(port)
        self._sockets.delete(encode_number(slot))

    def counts(self) -> dict[int, Counts]:
        """As in Steering; exact, by the program itself."""
        found = {slot: self._counted(slot) for slot in sorted(self._slots)}
        found[NO_SLOT] = self._counted(builtin.UNSELECTED)
        return found

    def descriptors(self) -> dict[str, int]:
        """As in Steering: five maps and the program.  They close on exec unless told otherwise."""
        return {name: owned.fileno() for name, owned in self._owned.items()}

    def order(self) -> list[int]:
        """As in Steering: none, sockets are named by slot and not by place."""
        return []

    def adopt_order(self, order: Sequence[int]) -> None:
        """As in Steering: nothing to adopt."""

    def check(self, cookies: Collection[int]) -> list[str]:  # noqa: ARG002
        """As in Steering: who else joins or leaves changes nothing for our slots."""
        return []

    def close(self) -> None:
        """As in Steering; twice is no error."""
        for owned in self._owned.values():
            owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _present(self, slot: int) -> bool:
        """The array has a listener here; the kernel takes it out on shutdown and last close."""
        return self._sockets.lookup(encode_number(slot)) is not None

    def _put(self, slot: int, listener: socket.socket) -> None:
        replaced = False
        for _ in _until(FREED_WITHIN):
            try:
                self._sockets.update(encode_number(slot), builtin.encode_socket(listener.fileno()))
            except KernelError as error:
                if error.errno != errno.EBUSY:
                    raise
                if not replaced:
                    # Our program in its place is what lets go of the old program's array.
                    self.attach(listener)
                    replaced = True
            else:
                return
        raise KernelError(
            "bpf(BPF_MAP_UPDATE_ELEM)",
            errno.EBUSY,
            f"getting a listener into slot {slot}",
            "another Segue or another program that still runs has this listener in its own array",
        )

    def _active(self) -> int:
        return builtin.decode_control(self._control.lookup(encode_number(0)) or b"")

    def _table(self) -> list[int]:
        return builtin.decode_table(self._tables.lookup(encode_number(self._active())) or b"")

    def _flip(self) -> None:
        present = {slot: part for slot, part in self._weights.items() if self._present(slot)}
        table = self._fill(present) if present else [builtin.NOBODY] * SIZE
        aside = 1 - self._active()
        self._tables.update(encode_number(aside), builtin.encode_table(table))
        self._control.update(encode_number(0), builtin.encode_control(aside))

    def _fill(self, present: dict[int, float]) -> list[int]:
        """The table for these shares; of the last few, as it was.

        A worker that stalls, and has its share back, has the same clients again; and a fill is the
        dearest part of a change of shares.
        """
        key = frozenset(present.items())
        table = self._filled.pop(key, None) or fill(present, self._table())
        self._filled[key] = table
        while len(self._filled) > _TABLES:
            del self._filled[next(iter(self._filled))]
        return table

    def _counted(self, element: int) -> Counts:
        values = self._counters.lookup_percpu(encode_number(element))
        return builtin.decode_counters(values or [])


def _until(seconds: float) -> Iterator[None]:
    """Go round, a moment apart, until the time is over; at least once."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() >= end:
            return
        time.sleep(_LOOK_AGAIN)
