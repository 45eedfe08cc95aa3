"""The engine that migrates: our program in the kernel, a table of shares, flipped in one write.

Needs Linux 5.14 and CAP_BPF; the sysctl net.ipv4.tcp_migrate_req is neither needed nor touched.
What is in force stays in force without this process: the program goes only with the last member
of the group, and the maps with the program.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence

from segue.engine.loaded import Loaded, load
from segue.engine.own_member import OwnMember, able
from segue.engine.refusal import Refusal
from segue.engine.sockarray import put
from segue.errors import KernelError, UsageError
from segue.linux.bpf import Descriptor, Program, attach_reuseport
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map, possible_cpus
from segue.linux.closing import Closing
from segue.linux.sockopt import cookie, stop_listening
from segue.policy import builtin
from segue.policy.builtin import encode_number
from segue.policy.counts import Counts
from segue.shares import SIZE, fill, is_least_change, quotas

# Tables remembered: one with everybody, and one without each of a few workers that stall in turn.
_TABLES = 8


class Migrate(Closing):
    """Steering of one group by a loaded program; owns the program and its maps."""

    name = "migrate"
    migrates = True
    weighs = True
    own_port = 0

    def __init__(self, loaded: Loaded | None = None) -> None:
        """Steer by this program, the built-in one unless given; nothing is attached yet.

        Until the first ``share`` the kernel's own hash decides.  Raises what ``load`` raises.
        """
        if loaded is None:
            loaded = load()
        maps = loaded.maps
        self._owned: dict[str, Descriptor] = {**maps, "program": loaded.program}
        self._sockets, self._tables, self._control, self._pins = (
            maps[name] for name in ("sockets", "tables", "control", "pins")
        )
        self._counters = maps.get("counters")
        self._program = loaded.program
        self._instead: Program | None = None
        self._slots: set[int] = set()
        self._weights: dict[int, float] = {}
        self._filled: dict[frozenset[tuple[int, float]], list[int]] = {}
        try:
            for copy in (0, 1):
                self._tables.update(encode_number(copy), builtin.EMPTY_TABLE)
        except BaseException:
            self.close()
            raise

    @classmethod
    def restore(cls, descriptors: Mapping[str, int]) -> Migrate:
        """The same steering after a re-exec, from what ``descriptors`` said, or from its pins.

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
            self._program = Program(self._descriptor("program").fileno())
            self._instead = None
            self._owned["program"] = self._program
            for name, owned in self._owned.items():
                if type(owned) is Descriptor:
                    self._owned[name] = Map.adopt(owned.fileno())
            self._slots = {slot for slot in range(builtin.SLOTS) if self._present(slot)}
            shared = Counter(self._table())
            self._weights = {slot: count for slot, count in shared.items() if slot in self._slots}
            self._filled = {}
        except BaseException:
            self.close()
            raise
        return self

    @property
    def maps(self) -> dict[str, Map]:
        """Every map of its program, by name; they stay this object's own."""
        return {name: owned for name, owned in self._owned.items() if isinstance(owned, Map)}

    def _descriptor(self, name: str) -> Descriptor:
        if name not in self._owned:
            raise UsageError(f"no descriptor {name!r} to restore the engine from")
        return self._owned[name]

    def _adopt(self, name: str, kind: MapType, value_size: int = 0) -> Map:
        adopted = Map.adopt(self._descriptor(name).fileno())
        self._owned[name] = adopted
        if adopted.kind is not kind or value_size not in {0, adopted.value_size}:
            raise UsageError(f"descriptor {name!r} is another map than this version of Segue makes")
        return adopted

    def join(self, slot: int, listener: socket.socket) -> None:
        """As in Steering; the first member, and the first after all are gone, attaches the program.

        When a crashed supervisor's program still has the listener, its program is replaced by ours
        and its array waited for (``segue.engine.sockarray``).  Raises KernelError: EINVAL when
        the socket is not listening with SO_REUSEPORT, EBUSY when a living program keeps it.
        """
        if not 0 <= slot < builtin.SLOTS:
            raise UsageError(f"a slot must be between 0 and {builtin.SLOTS - 1} (got {slot})")
        if slot in self._slots:
            raise UsageError(f"slot {slot} has a listener already")
        emptied = not any(self._present(one) for one in self._slots)
        key = encode_number(slot)
        if self._counters is not None:
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
        with able(listener) as member:
            attach_reuseport(member.fileno(), (self._instead or self._program).fileno())

    def look_after(self, own: OwnMember) -> bool | None:
        """As in Steering, by a pin to a slot that nobody has.  Raises KernelError, OSError."""
        free = max(slot for slot in range(builtin.SLOTS) if slot not in self._slots)
        port, slot = encode_number(own.port), encode_number(free)
        self._sockets.update(slot, builtin.encode_socket(own.listener.fileno()))
        try:
            self._pins.update(port, slot)
            return own.reached(lambda: self.attach(own.listener))
        finally:
            self._pins.delete(port)
            self._sockets.delete(slot)

    def exchange(self, program: Program | None, listener: socket.socket | None) -> None:
        """Attach this one from now on, the caller's to close, or with None our own again.

        It must be over ``maps``.  Without a listener only who joins next is told.  Raises
        KernelError.
        """
        self._instead = program
        if listener is not None:
            self.attach(listener)

    def refuse(self, listeners: Sequence[socket.socket]) -> bool:
        """As in Refusing.  Refused connections are counted as cancelled."""
        with Refusal(self.maps) as refusal, able(listeners[0]) as member:
            attach_reuseport(member.fileno(), refusal.program.fileno())
        return True

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
            raise UsageError(f"a port must be between 1 and 65535 (got {port})")
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

    def leave(self, slot: int, listener: socket.socket, *, end: bool = False) -> None:
        """As in Steering.  Its share goes to the others in proportion, its pins are forgotten."""
        with listener:
            self.forget(slot)
            if end:
                stop_listening(listener)

    def forget(self, slot: int) -> None:
        """As ``leave``, for a listener of which no descriptor is held here."""
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

    def counts(self) -> dict[int | None, Counts]:
        """As in Counting; exact, by the program itself."""
        if self._counters is None:
            return {}
        found: dict[int | None, Counts] = {slot: self.counted(slot) for slot in sorted(self._slots)}
        found[None] = self.counted(builtin.UNSELECTED)
        return found

    def cookies(self) -> dict[int, int]:
        """Slot -> cookie of the listener that the kernel has there now.

        It takes one out on shutdown and last close, and puts none back.
        """
        found = ((slot, self._sockets.lookup(encode_number(slot))) for slot in sorted(self._slots))
        return {slot: builtin.decode_number(one) for slot, one in found if one is not None}

    def steered_by_another(self, listener: socket.socket) -> bool:
        """Another program's array has this listener: that program, most likely, steers its group.

        Changes nothing.  Raises KernelError: EINVAL without SO_REUSEPORT.
        """
        if cookie(listener) in self.cookies().values():
            return False
        free = next(slot for slot in range(builtin.SLOTS) if slot not in self._slots)
        return in_another_table(self._sockets, free, listener)

    def pin_objects(self, directory: str) -> None:
        """Pin the program and every map under their names.  Raises KernelError."""
        for name, owned in self._owned.items():
            owned.pin(f"{directory}/{name}")

    def identities(self) -> dict[str, int]:
        """The kernel's ids of its program and maps, by name: no two that live have the same.

        Raises KernelError.
        """
        return {
            "program": self._program.info().id,
            **{name: one.info().id for name, one in self.maps.items()},
        }

    def descriptors(self) -> dict[str, int]:
        """As in HandingOver: the maps and the program, which close on exec."""
        return {name: owned.fileno() for name, owned in self._owned.items()}

    def close(self) -> None:
        """As in Steering; twice is no error."""
        for owned in self._owned.values():
            owned.close()

    def _present(self, slot: int) -> bool:
        """The array has a listener here; the kernel takes it out on shutdown and last close."""
        return self._sockets.lookup(encode_number(slot)) is not None

    def _put(self, slot: int, listener: socket.socket) -> None:
        put(self._sockets, slot, listener, lambda: self.attach(listener))

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
        """The table for these shares; of the last few, as it was, if no fill could change less.

        A worker that stalls, and has its share back, has the same clients again; and a fill is the
        dearest part of a change of shares.  Where shares went several steps since, the old table
        would move clients that can stay.
        """
        key = frozenset(present.items())
        table, before = self._filled.pop(key, None), self._table()
        if table is None or not is_least_change(before, table):
            table = fill(present, before)
        self._filled[key] = table
        while len(self._filled) > _TABLES:
            del self._filled[next(iter(self._filled))]
        return table

    def counted(self, slot: int) -> Counts:
        """As in Counting."""
        values = self._counters and self._counters.lookup_percpu(encode_number(slot))
        return builtin.decode_counters(values or [])


def cookies(table: Map) -> set[int]:
    """Of every listener in a table of sockets.  Raises KernelError."""
    found = [table.lookup(key) for key in list(table.keys())]
    return {builtin.decode_number(one) for one in found if one is not None}


def in_another_table(table: Map, free: int, listener: socket.socket) -> bool:
    """Whether a listener that is not in this table is in another, by way of its ``free`` slot.

    Raises KernelError.
    """
    try:
        table.update(encode_number(free), builtin.encode_socket(listener.fileno()))
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    table.delete(encode_number(free))
    return False
