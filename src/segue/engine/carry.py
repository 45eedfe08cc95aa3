"""An accepted connection is carried from its owner to another listener of the same address.

The steps, in an order in which a death of this process between any two leaves the client with an
answer or an end that it sees (docs/ARCHITECTURE.md, "A carry"):

1. what would be refused whatever the connection does is refused (``observe/carrying.py``);
2. the owner is stopped by ptrace(2), which ends with us;
3. the connection is held: its filter drops everything until a time, which ends by itself;
4. a look says whether it may be carried, else it is let go;
5. the classifier gets the entry of the connection, and the guard a duplicate;
6. into repair mode, and the connection is forgotten; the guard is for this moment;
7. the client's last segment comes in once more, and makes the connection at the target;
8. the old socket is ended, so that its owner reads an end of file;
9. the owner goes on;
10. where no connection was made, the segment comes again until the entry ends; then the client is
    reset.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from segue.bpf.btf_fields import function
from segue.bpf.insn import Instruction
from segue.engine import carry_classifier, carry_facts, carry_look
from segue.engine.carry_facts import Pair
from segue.engine.carry_guard import Guard
from segue.errors import KernelError
from segue.linux import ptrace, socket_filter, sockopt, tcp_queue, tcp_repair, tcx
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType, MapType
from segue.linux.bpf_maps import Map
from segue.linux.closing import Closing
from segue.linux.raw_ip import RawIp
from segue.observe import carrying
from segue.observe.carrying import Held, Host, Refusal

_HOLD_NS = 100_000_000
# What must be left of it when the connection is taken: the rest takes microseconds.
_SPARE_NS = 10_000_000
_ENTRY_SECONDS = 2.0
_AGAIN_SECONDS = 0.01
_ENTRIES = 4096
_LOOK = "segue_look"
# Those whose handlers raise, in a command line or a test: not between two steps.
_RAISING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM})


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a connection: carried; else refused, and as it was; else lost.

    The client of a connection that is lost is reset.  ``errno`` is what the kernel said last, 0
    when no listener was there or had room.
    """

    carried: bool = False
    refused: Refusal | None = None
    unread: int = 0  # bytes that went along
    errno: int = 0

    def __str__(self) -> str:
        if self.carried:
            return f"carried, with {self.unread} unread bytes" if self.unread else "carried"
        if self.refused is not None:
            return f"left alone: {self.refused.value}"
        return "lost: no listener took it" + (f" (error {self.errno})" if self.errno else "")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A connection that no process has: its entry's key, and the packet that makes it again."""

    pair: Pair
    where: bytes
    packet: bytes
    unread: int


class Carrier(Closing):
    """What carries in one network namespace: programs, maps, links and the guard.

    While it lives, the classifier sees every packet that comes in at the interfaces: it compares
    some bytes and looks into a map.  It goes with this object, or with the process.  A connection
    that was held and then refused has a filter no more.
    """

    def __init__(self) -> None:
        """To be made in the network namespace; it knows the interfaces that are there now.

        Raises NotSupported when this kernel has not the function (Linux 6.9) or links (6.6),
        VerifierError, KernelError (EPERM without CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW).
        """
        license_text = carry_classifier.LICENSE
        with ExitStack() as stack:
            own = stack.enter_context
            self._entries = own(
                _map("segue_carry", carry_classifier.KEY_BYTES, carry_classifier.VALUE_BYTES)
            )
            self._until = own(_map("segue_hold", 8, 8))
            size = carry_look.LOOK_BYTES
            self._seen = own(Map.create(MapType.ARRAY, value_size=size, entries=1, name=_LOOK))
            types = carry_facts.types()  # half a second: permission is asked for first
            kernel = function(types, carry_classifier.FUNCTION, carry_classifier.NEEDS)
            where = carry_look.fields(types)

            def classifier(name: str, code: list[Instruction]) -> Program:
                kind = AttachType.TCX_INGRESS
                return own(
                    Program.load(code, name=name, attach_type=kind, license_text=license_text)
                )

            self._looks = {
                version: classifier(_LOOK, carry_look.look(self._seen.fileno(), where, size))
                for version, size in ((4, carry_look.IPV4_TUPLE), (6, carry_look.IPV6_TUPLE))
            }
            self._hold = own(
                Program.load(
                    carry_look.hold(self._until.fileno(), types),
                    name="segue_hold",
                    attach_type=AttachType.SOCKET,
                    license_text=license_text,
                )
            )
            interfaces = tcx.interfaces()
            entries = self._entries.fileno()
            programs = {
                header: classifier("segue_carry", carry_classifier.program(entries, kernel, header))
                for header in set(interfaces.values())
            }
            for index, header in interfaces.items():
                own(tcx.attach(programs[header], index))
            self._raw = own(RawIp())
            self._guard = own(Guard())
            self._owned = stack.pop_all()

    def carry(
        self,
        connection: socket.socket,
        targets: Sequence[socket.socket],
        owners: Collection[int] = (),
    ) -> Report:
        """Carry one connection, of which ``connection`` is a duplicate; it stays the caller's.

        ``targets`` are the listeners among which the group's selection chooses, as it does for a
        new connection: a steering's share or pin is the choice.  ``owners`` are the processes that
        have the connection; nobody else may use it meanwhile.  Takes two seconds when no listener
        takes it, for which the owners do not wait.  Raises KernelError where the kernel refuses a
        step; the connection is then as it was.
        """
        settings = carry_facts.host()
        known = [carry_facts.target(one) for one in targets]
        why = carrying.before(settings, carry_facts.outside(connection), known)
        if why is not None:
            return Report(refused=why)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _RAISING)
        try:
            with ptrace.stopped(owners) as all_stopped:
                if not all_stopped:
                    return Report(refused=Refusal.OWNER_RUNS)
                taken = self._held(connection, settings, carrying.room(known))
                if isinstance(taken, Refusal):
                    return Report(refused=taken)
                refused = self._inject(taken)
                # Also where that was refused: nobody has the connection any more.
                _end(connection)
                self._guard.let_go()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._settle(taken, refused)

    def close(self) -> None:
        """Take the classifier away and end the guard; twice is no error."""
        self._owned.close()

    def _held(self, connection: socket.socket, settings: Host, room: int) -> Refusal | _Taken:
        """Hold it, and take it out of its owner's hands; or let it go again, and why."""
        cookie = sockopt.cookie(connection).to_bytes(8, "little")
        until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _HOLD_NS
        self._until.update(cookie, until.to_bytes(8, "little"))
        found: Refusal | _Taken | None = None
        try:
            # Takes the lock of the socket, so that what had passed before has been put away.
            socket_filter.attach(connection, self._hold)
            try:
                found = self._take(connection, settings, room, until)
            finally:
                if not isinstance(found, _Taken):
                    socket_filter.detach(connection)
        finally:
            self._until.delete(cookie)
        return found

    def _take(
        self, connection: socket.socket, settings: Host, room: int, until: int
    ) -> Refusal | _Taken:
        """From the look to the disconnect; or the connection as it was, and why."""
        pair = Pair.of(connection)
        held = self._look(pair)
        if held is None or held.state == carrying.LISTEN:
            return Refusal.NOT_FOUND
        payload = tcp_queue.peek(connection, min(held.unread, room))
        why = carrying.refusal(settings, held, pair.version, len(payload), room)
        if why is not None:
            return why
        packet = pair.packet(held, payload, tcp_queue.traffic_class(connection))
        entry = self._entry(connection, held)
        where = carry_classifier.key(pair.addresses, pair.ports)
        self._entries.update(where, entry.encode())
        taken = False
        try:
            self._guard.take(connection)
            if time.clock_gettime_ns(time.CLOCK_MONOTONIC) > until - _SPARE_NS:
                return Refusal.LATE
            tcp_repair.enter(connection)
            try:
                tcp_repair.disconnect(connection)
                taken = True
            finally:
                if not taken:
                    tcp_repair.leave(connection)
        finally:
            if not taken:
                self._entries.delete(where)
                self._guard.let_go()
        return _Taken(pair, where, packet, len(payload))

    def _look(self, pair: Pair) -> Held | None:
        zero = bytes(4)
        self._seen.update(zero, carry_look.asked(pair.addresses + pair.ports))
        if tcx.run(self._looks[pair.version]) != carry_look.THERE:
            return None
        value = self._seen.lookup(zero)
        assert value is not None
        return Held(*carry_look.seen(value))

    def _entry(self, connection: socket.socket, held: Held) -> carry_classifier.Entry:
        return carry_classifier.Entry(
            seq=held.copied_seq,
            ack=held.snd_nxt,
            peer_clock=held.ts_recent,
            own_clock=tcp_repair.clock(connection),
            mss=held.mss_clamp,
            receive_scale=held.rcv_wscale,
            send_scale=held.snd_wscale,
            scaling=bool(held.wscale_ok),
            sack=bool(held.sack_ok),
            timestamps=bool(held.tstamp_ok),
            until=time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(_ENTRY_SECONDS * 1e9),
        )

    def _inject(self, taken: _Taken) -> int:
        """The client's last segment once more; the error number if it may not be sent."""
        try:
            self._raw.send(taken.packet, taken.pair.here)
        except KernelError as error:
            return error.errno or 0
        return 0

    def _settle(self, taken: _Taken, refused: int) -> Report:
        """Wait until somebody has the connection, or the entry has ended."""
        limit = time.monotonic() + _ENTRY_SECONDS
        # The classifier does not know it: the kernel makes no child where the queue is full.
        while not (made := self._made(taken.pair)) and time.monotonic() < limit:
            time.sleep(_AGAIN_SECONDS)
            refused = self._inject(taken)
        value = self._entries.lookup(taken.where)
        self._entries.delete(taken.where)
        if made:
            return Report(carried=True, unread=taken.unread)
        self._inject(taken)  # the kernel answers this one with a reset to the client
        return Report(errno=refused or (carry_classifier.refused(value) if value else 0))

    def _made(self, pair: Pair) -> bool:
        """The client has somebody to talk to, who may have ended the connection already."""
        held = self._look(pair)
        return held is not None and held.state != carrying.LISTEN


def _end(connection: socket.socket) -> None:
    tcp_repair.leave(connection)
    tcp_repair.finish(connection)


def _map(name: str, key: int, value: int) -> Map:
    return Map.create(MapType.HASH, key_size=key, value_size=value, entries=_ENTRIES, name=name)
