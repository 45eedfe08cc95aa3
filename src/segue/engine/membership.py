"""When to look at a group again: at once where the kernel tells, else by the clock.

The tracepoint ``sock:inet_sock_set_state`` is hit by every connection of the host; its filter runs
in the kernel and lets pass only sockets of one port that begin or end to listen.  Where tracing is
not to be had (a container, an ordinary user) the listeners are listed at a pace.
"""

from __future__ import annotations

from segue.errors import KernelError, NotSupported
from segue.linux.sock_diag import State
from segue.linux.tracefs import Tracepoint

# Without events.  A listing of a few listeners and the loop around it take 0.3 ms; with many the
# pace is slower, so that looking takes at most this part of a core.
PACE = 0.05
_AT_MOST = 0.005
# With events, for what they do not tell: a listener that left its table and listens still.
SLOW_PACE = 1.0
# The event comes before the listener can be found in a listing; how long it is looked for, and how
# often.  It takes microseconds unless its process is put aside in between.
_ECHO = 0.1
_ECHO_PACE = 0.01


class MembershipWatch:
    """Owns the tracepoint, if there is one.  ``why`` says what stands in the way of it."""

    def __init__(self, port: int, now: float, *, traced: bool = True) -> None:
        self.why = "" if traced else "not asked for"
        self._trace: Tracepoint | None = None
        self._next = self._thorough = now
        self._echo = 0.0
        self._pace = PACE
        begins, ends = State.LISTEN.value, State.CLOSE.value
        # A child is cloned from its listener, and so leaves LISTEN for SYN_RECV.
        only = (
            f"sport == {port}"
            f" && (newstate == {begins} || (oldstate == {begins} && newstate == {ends}))"
        )
        if traced:
            try:
                self._trace = Tracepoint("sock", "inet_sock_set_state", "newstate", only)
                self._pace = SLOW_PACE
            except (KernelError, NotSupported) as error:
                self.why = str(error)

    @property
    def traced(self) -> bool:
        """The kernel tells."""
        return self._trace is not None

    def fileno(self) -> int:
        """Readable when a listener came or went; -1 without the tracepoint."""
        return -1 if self._trace is None else self._trace.fileno()

    def notified(self, now: float, own: int = 0) -> None:
        """The descriptor was readable.  A trace that cannot be read is given up: see ``traced``.

        So many of the events are our ``own`` and tell nothing.
        """
        if self._trace is None:
            return
        try:
            events = len(self._trace.read()) > own
        except KernelError as error:
            self.close()
            self.why, self._pace, events = str(error), PACE, True
        if events:
            self._next, self._thorough, self._echo = now, now, now + _ECHO

    def deadline(self) -> float:
        """When ``due`` next wants the time."""
        return self._next

    def due(self, now: float) -> tuple[bool, bool]:
        """Whether to look now, and whether at what no list of listeners shows as well."""
        if now < self._next:
            return False, False
        thorough = now >= self._thorough or now < self._echo
        if now >= self._thorough:
            self._thorough = now + SLOW_PACE
        self._next = now + (_ECHO_PACE if now < self._echo else self._pace)
        return True, thorough

    def took(self, seconds: float) -> None:
        """So long a look at an unchanged group kept the processor busy."""
        if not self.traced:
            self._pace = min(SLOW_PACE, max(PACE, seconds / _AT_MOST))

    def close(self) -> None:
        """Remove the tracepoint; twice is no error."""
        if self._trace is not None:
            self._trace.close()
            self._trace = None
