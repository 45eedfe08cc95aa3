"""Show every decision of a policy as it happens, while a client watches.

The program is exchanged for one that also puts a record into a ring buffer; the maps are the same,
so shares, pins and counts go on.  Without a client the ordinary program runs, at no extra cost.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from segue.engine.loaded import create, load_over
from segue.engine.steering import Exchangeable
from segue.errors import NotSupported
from segue.linux.bpf_maps import Map
from segue.linux.ringbuf import RingBuffer
from segue.policy import common
from segue.policy.builtin import UNSELECTED, decode_number, encode_number
from segue.policy.compile import Compiled
from segue.policy.language import Migrating
from segue.policy.maps import Map as Declared


class Trace:
    """One group's tracing program; ``descriptors`` are for the client that reads."""

    def __init__(self, steering: Exchangeable, compiled: Compiled, listener: socket.socket) -> None:
        """Attach it in place of the steering's own, through one of the group's listeners.

        ``compiled`` is the steering's policy, traced.  Raises NotSupported when the steering is
        another program's, KernelError, VerifierError.
        """
        maps = steering.maps
        missing = [
            one.name
            for one in compiled.maps
            if isinstance(one, Declared) and one is not common.lost and one.name not in maps
        ]
        if missing:
            raise NotSupported("tracing", "a policy in Python", "the program of an object")
        self._steering = steering
        with ExitStack() as undo:
            ring = undo.enter_context(create(common.events))
            lost = undo.enter_context(create(common.lost))
            program = undo.enter_context(
                load_over(compiled, {**maps, common.events.name: ring, common.lost.name: lost})
            )
            undo.callback(steering.exchange, None, None)
            steering.exchange(program, listener)
            self.descriptors = (ring.fileno(), lost.fileno(), maps["sockets"].fileno())
            self._owned = undo.pop_all()

    def end(self, listener: socket.socket | None) -> None:
        """Put the steering's own program back, and let go of all; twice is no error.

        Without a listener, no group is left that could have the program.
        """
        with self._owned:
            self._steering.exchange(None, listener)


@dataclass(frozen=True, slots=True)
class TracedDecision:
    """One decision.  ``when`` is in seconds of CLOCK_MONOTONIC; slots are None for the hash."""

    when: float
    kind: Migrating
    client: str  # HOST:PORT
    cookie: int  # of the listener it came by
    slot: int | None  # to whom; None for the kernel's own hash, and when it was refused
    passed: bool
    missed: bool  # some slot that was tried had no listener


class TraceReader:
    """The end of a trace that reads; owns the descriptors that ``Trace`` gave."""

    def __init__(self, ring: int, lost: int, sockets: int) -> None:
        """Raises KernelError; the descriptors are then still the caller's."""
        self._lost, self._sockets = Map.adopt(lost), Map.adopt(sockets)
        self._ring = RingBuffer(Map.adopt(ring))
        self._slots: dict[int, int] = {}  # by cookie; who has left is remembered
        self._learn()

    def fileno(self) -> int:
        """For a selector: readable while a record waits."""
        return self._ring.fileno()

    def events(self) -> Iterator[TracedDecision]:
        """What has happened since the last call."""
        for record in self._ring.records():
            one = event(common.events.read(record))
            unknown = one.slot is not None and one.slot not in self._slots.values()
            if unknown or one.cookie not in self._slots:
                self._learn()  # while it is there: what comes from it later is told of too
            yield one

    def lost(self) -> int:
        """How many records found the ring full so far.  Raises KernelError."""
        values = self._lost.lookup_percpu(encode_number(0)) or []
        return sum(map(decode_number, values))

    def slot_of(self, cookie: int) -> int | None:
        """The slot that a listener has or had; None for one that was never seen in the table."""
        return self._slots.get(cookie)

    def _learn(self) -> None:
        for key in list(self._sockets.keys()):
            found = self._sockets.lookup(key)
            if found is not None:
                self._slots[decode_number(found)] = decode_number(key)

    def close(self) -> None:
        """Let go of all; the trace itself ends with the connection it was asked over."""
        self._ring.close()
        self._lost.close()
        self._sockets.close()


def event(record: Mapping[str, int]) -> TracedDecision:
    """A record of ``policy.common.events``."""
    words = [record[f"remote_{number}"].to_bytes(4, "big") for number in range(4)]
    if record["ipv6"]:
        host = f"[{ipaddress.IPv6Address(b''.join(words))}]"
    else:
        host = str(ipaddress.IPv4Address(words[3]))
    return TracedDecision(
        record["when"] / 1e9,
        Migrating(record["kind"]),
        f"{host}:{record['remote_port']}",
        record["cookie"],
        None if record["slot"] == UNSELECTED else record["slot"],
        bool(record["passed"]),
        bool(record["missed"]),
    )
