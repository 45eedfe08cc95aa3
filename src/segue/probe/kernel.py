"""The kernel's side of a run: its counters, and why it sent each reset.

Both are known only where the target is an address of this machine.  A reset is matched to a lost
connection by our own address and port, so that others' resets are not taken for ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from segue.errors import SegueError
from segue.linux.tracefs import Event, Tracepoint
from segue.observe.counters import Counters
from segue.probe.target import Target

# Of enum sk_rst_reason (include/net/rstreason.h), in words for the client that lost a connection.
CAUSES = {
    "NO_SOCKET": "no listener, or its half-open requests went with it",
    # Both are tcp_disconnect() (net/ipv4/tcp.c), and the kernel does not tell them apart.
    "TCP_STATE": "in the accept queue of a listener that closed, or linger time 0 on purpose",
    "TCP_ABORT_ON_CLOSE": "accepted and never read: closed with the request unread",
    "TCP_ABORT_ON_DATA": "closed early: bytes came after the server had closed",
    "TCP_ABORT_ON_LINGER": "closed early: on purpose, with a linger time of 0",
    "TCP_ABORT_ON_MEMORY": "out of memory for sockets",
    "TCP_DISCONNECT_WITH_DATA": "disconnected while bytes were unsent",
    "TCP_FLAGS": "in the middle of the handshake: a listener that did not know of it",
    "TCP_TIMEWAIT_SOCKET": "the port was still in TIME-WAIT",
    "TCP_KEEPALIVE_TIMEOUT": "no answer to TCP's keepalive",
    "NOT_SPECIFIED": "the kernel does not say",
}
NOT_HERE = "the target is no address of this machine, so its kernel cannot be asked"
# Addresses of resets that are remembered; a run that has more is understood with these.
KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Kernel:
    """``causes`` counts our lost connections by the kernel's reason.

    ``untold`` of them it said nothing of.  ``others`` counts the resets that this port sent to
    somebody else, where this namespace sent more than ours.  ``silent`` says why there are no
    causes, empty when there are; ``counters`` is None when there are none either.
    """

    counters: Counters | None = None
    causes: dict[str, int] = field(default_factory=dict)
    untold: int = 0
    others: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    silent: str = ""

    @property
    def unexplained(self) -> str:
        """``silent``, where there was a reset to explain, or nobody knows of any."""
        counted = self.counters
        if counted is None or self.untold or counted.out_rsts or counted.estab_resets:
            return self.silent
        return ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def meaning(reason: str) -> str:
    """A reason in words; the reason itself where there are none."""
    return CAUSES.get(reason, reason.replace("_", " ").lower())


class Watch:
    """Looks from now until ``finish``; ``drain`` now and then keeps the kernel's buffer empty."""

    def __init__(self, target: Target) -> None:
        self._port = target.address.port
        self._resets: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        self._tracepoint: Tracepoint | None = None
        self._before: Counters | None = None
        self._silent = ""
        if not target.local:
            self._silent = NOT_HERE
            return
        try:
            self._before = Counters.read()
            self._tracepoint = Tracepoint("tcp", "tcp_send_reset", "reason")
        except SegueError as error:
            self._silent = str(error)

    def drain(self) -> None:
        """Take what the kernel has said since the last time."""
        if self._tracepoint is None:
            return
        try:
            self._take(self._tracepoint.read())
        except SegueError as error:
            self._silent = str(error)
            self.close()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            _, port = endpoint(event.fields.get("src", ""))
            if port == self._port and len(self._resets) < KEPT:
                client = endpoint(event.fields.get("dest", ""))
                self._resets[client].append(event.fields.get("reason", "NOT_SPECIFIED"))

    def finish(self, reset_from: Iterable[tuple[str, int]]) -> Kernel:
        """What was found, for the connections of ours that were reset; closes the trace."""
        self.drain()
        dropped = self._tracepoint.lost if self._tracepoint else 0
        self.close()
        found = None if self._before is None else Counters.read() - self._before
        causes: Counter[str] = Counter()
        untold = 0
        for client in reset_from:
            if reasons := self._resets.get(client):
                causes[reasons.pop(0)] += 1
            else:
                untold += 1
        others = Counter(reason for reasons in self._resets.values() for reason in reasons)
        # The trace is of the whole kernel, the counter of this network namespace: when ours are all
        # that it counts, the others were sent in another namespace, from a port of the same number.
        if found is None or found.out_rsts <= sum(causes.values()):
            others.clear()
        return Kernel(found, dict(causes), untold, dict(others), dropped, self._silent)

    def close(self) -> None:
        """Stop tracing; may be called again."""
        if self._tracepoint is not None:
            self._tracepoint.close()
            self._tracepoint = None


def endpoint(text: str) -> tuple[str, int]:
    """A host and port as the kernel prints them (%pISpc); IPv4 inside IPv6 is IPv4."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]").removeprefix("::ffff:")
    return host, int(port) if port.isdigit() else 0
