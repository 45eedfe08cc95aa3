"""Accepted connections are carried from their owner to another listener of the same address.

The steps, in an order in which a death of this process between any two leaves the client with an
answer or an end that it sees (docs/ARCHITECTURE.md, "A carry"):

1. what would be refused whatever the connection does is refused (``observe/carrying.py``), and the
   guard gets a duplicate of what is left;
2. the owner is stopped by ptrace(2), which ends with us;
3. the connection is held: its filter drops everything until a time, which ends by itself;
4. a look says whether it may be carried, else it is let go;
5. the classifier gets the entry of the connection;
6. into repair mode, and the connection is forgotten; the guard is for this moment;
7. the client's last segment comes in once more, and makes the connection at the target;
8. the old socket is ended, so that its owner reads an end of file;
9. 3 to 8 for the next connection, until the time is over; then the owner goes on;
10. where no connection was made, the segment comes again until the entry ends; then the client is
    reset.
"""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace

from segue.engine import carry_back, carry_classifier, carry_facts
from segue.engine.carry_batch import Candidate, Scene, Taken, inject
from segue.engine.carry_guard import Guard
from segue.engine.carry_programs import Programs
from segue.engine.carry_waiting import Unread, Waiting
from segue.engine.carry_wish import Report, Wish
from segue.errors import KernelError
from segue.linux import ptrace, realtime, snmp, socket_filter
from segue.linux.closing import Closing
from segue.linux.raw_ip import RawIp
from segue.observe import carrying
from segue.observe.carrying import Refusal

_AGAIN_SECONDS = 0.01
BUDGET = 0.002
_FIT = 16  # connections in the first batch, if there is time for so many
_TURN_SECONDS = 0.000_02  # for clients to run, at which we look
# Those whose handlers raise, in a command line or a test: not between two steps.
_RAISING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM})


class Carrier(Closing):
    """What carries in one network namespace: programs, maps, links and the guard.

    While it lives, the classifier sees every packet that comes in at the interfaces: it compares
    some bytes and looks into a map.  It goes with this object, or with the process.  All methods
    are to be called in that namespace.
    """

    def __init__(self, *, answers: bool = False) -> None:
        """Takes a third of a second.  With ``answers`` what servers send is read too, which the
        rule for HTTP/1.x asks for.

        Raises NotSupported when this kernel has not the function (Linux 6.9) or links (6.6),
        VerifierError, KernelError (EPERM without CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW).
        """
        with ExitStack() as stack:
            self._programs = stack.enter_context(Programs(answers=answers))
            self._raw = stack.enter_context(RawIp())
            self._guard = stack.enter_context(Guard())
            self._owned = stack.pop_all()
        self._fit = _FIT
        self.longest_stop = 0.0  # seconds for which owners were stopped, the longest so far
        self._pending: list[Taken] = []
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When ``settle`` wants to be called, by time.monotonic(); None: not until a batch."""
        return self._due if self._pending else None

    def watch(self, listener: socket.socket) -> Refusal | None:
        """Our filter becomes the listener's, and that of what it accepts from now on.

        Of such a connection it is noted what its client sends, and it is held without a change to
        it.  Otherwise the filter passes everything, also when this object is gone.  A filter in
        classic BPF is its owner's and stays, and so does what is locked: it is said which.  One in
        eBPF is taken for that of a carrier that is gone, and replaced.  Raises KernelError.
        """
        if socket_filter.classic(listener):
            return Refusal.FILTERED
        return self._programs.hold(listener)

    @property
    def waiting(self) -> Waiting:
        """Where the filters write down requests that come; ``unread`` asks for them."""
        return self._programs.waiting

    def unread(self) -> list[Unread]:
        """Requests that have come at watched listeners and wait to be read: a sample, 0.05 ms.

        Raises KernelError.
        """
        return self._programs.unread()

    def unwatch(self, listener: socket.socket) -> None:
        """Take our filter off; what was accepted with it keeps it, and it passes everything.

        Not where its owner has put a filter in classic BPF in its place.  Raises KernelError.
        """
        if socket_filter.present(listener) and not socket_filter.classic(listener):
            socket_filter.detach(listener)

    def follow_interfaces(self) -> None:
        """To be called now and then, once a second: interfaces that are new get the classifier.

        The connection of a client that comes by one that has none is left alone: its client would
        be reset if it spoke in the microseconds in which no process has it.  Raises KernelError.
        """
        self._programs.follow_interfaces()

    def batch(
        self,
        wishes: Sequence[Wish],
        targets: Sequence[socket.socket],
        owners: Collection[int],
        budget: float = BUDGET,
    ) -> list[Report]:
        """Carry what may be carried of connections of the same owners; a report for each wish.

        ``targets`` are the listeners among which the group's selection chooses, as it does for a
        new connection: a steering's share or pin is the choice.  ``owners`` are the processes that
        have the connections; nobody else may use them meanwhile.  They are stopped for ``budget``
        seconds at most, and for the one connection that is begun then.  Where it takes long until
        they have stopped, half of it is left from then on.  Those for which no time was left are
        ``Report.later``.
        Raises KernelError where the kernel refuses what all need; nothing is done then.
        """
        scene = self._scene(targets)
        for _ in self._programs.back.records():
            pass  # others have put a connection into repair mode, who knows when
        reports: dict[Wish, Report] = {}
        candidates: list[Candidate] = []
        for wish in wishes:
            if len(candidates) >= self._fit:
                reports[wish] = Report(wish, refused=Refusal.NO_TIME)
                continue
            try:
                found = scene.prepare(wish)
            except KernelError as error:
                reports[wish] = _failed(wish, error)
                continue
            if isinstance(found, Refusal):
                reports[wish] = Report(wish, refused=found)
            else:
                candidates.append(found)
        if candidates:
            scene = replace(scene, drops=_drops())
        taken = self._stopped(scene, candidates, owners, budget, reports)
        for one in taken:
            self._programs.until.delete(one.cookie)
            self._check(one, reports)
        self._give_back()
        return [reports[wish] for wish in wishes]

    def _give_back(self) -> None:
        """What came while connections were held comes now.

        What is kept again meanwhile waits for the next time: nobody has its connection.
        """
        for record in list(self._programs.back.records()):
            found = carry_back.packet(record)
            if found is not None:
                inject(self._raw, *found)

    def judge(
        self, wishes: Sequence[Wish], targets: Sequence[socket.socket]
    ) -> list[Refusal | None]:
        """Why each would be left alone now; None for one that nothing speaks against.

        Nothing is done to it, but that its client's requests are noted from now on.  Raises
        KernelError as ``batch``.
        """
        scene = self._scene(targets)
        found: list[Refusal | None] = []
        for wish in wishes:
            try:
                why = scene.prepare(wish)
            except KernelError as error:
                found.append(_failed(wish, error).refused)
                continue
            found.append(why if isinstance(why, Refusal) else None)
        return found

    def _scene(self, targets: Sequence[socket.socket]) -> Scene:
        known = [carry_facts.target(one) for one in targets]
        room = carrying.room(known)
        return Scene(carry_facts.host(), known, self._programs, self._raw, room)

    def _stopped(
        self,
        scene: Scene,
        candidates: list[Candidate],
        owners: Collection[int],
        budget: float,
        reports: dict[Wish, Report],
    ) -> list[Taken]:
        """What was taken; the reports of the others are made."""
        taken: list[Taken] = []
        if not candidates:
            return taken
        reached = 0
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _RAISING)
        try:
            self._guard.take([one.wish.connection for one in candidates])
            began = time.monotonic()
            # On a busy machine the owner would stand still while others have their turn.
            urgent = realtime.urgent() if owners else nullcontext()
            with urgent, ptrace.stopped(owners) as all_stopped:
                limit = max(began + budget, time.monotonic() + budget / 2)
                if all_stopped:
                    reached = self._in_turn(scene, candidates, owners, limit, taken, reports)
                else:
                    refused = Refusal.OWNER_RUNS
                    reports |= {one.wish: Report(one.wish, refused=refused) for one in candidates}
                # Before the owner goes on: what it closes is then out of its epoll set.
                self._guard.let_go()
            if owners:
                self.longest_stop = max(self.longest_stop, time.monotonic() - began)
            # As many as there is time for, and some more, since the next may be quicker.
            self._fit = reached + max(2, reached // 4) if reached else _FIT
        finally:
            self._guard.let_go()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return taken

    @staticmethod
    def _in_turn(
        scene: Scene,
        candidates: list[Candidate],
        owners: Collection[int],
        limit: float,
        taken: list[Taken],
        reports: dict[Wish, Report],
    ) -> int:
        """While the owners stand still, until the limit; how many there was time for."""
        # Those of which an acknowledgement may come meanwhile, or the next request, come last.
        waiting = deque(sorted(candidates, key=lambda one: one.turning))
        turning: dict[Wish, Refusal] = {}
        reached = 0
        while waiting:
            one = waiting.popleft()
            if reached and time.monotonic() > limit:
                why = turning.get(one.wish, Refusal.NO_TIME)
                reports[one.wish] = Report(one.wish, refused=why)
                continue
            if one.wish in turning:
                time.sleep(_TURN_SECONDS)
            else:
                reached += 1
            try:
                not_yet = scene.turned(one) if one.turning else None
                if not_yet is Refusal.UNACKNOWLEDGED:
                    turning[one.wish] = not_yet
                    waiting.append(one)
                    continue
                found = not_yet or scene.take(one)
            except KernelError as error:
                reports[one.wish] = _failed(one.wish, error)
                continue
            if isinstance(found, Refusal):
                reports[one.wish] = Report(one.wish, refused=found)
                continue
            taken.append(found)
            if owners:
                one.wish.connection.close()
        return reached

    def settle(self) -> list[Report]:
        """Look again at what is pending, and send its segment again; what is decided now.

        A connection is pending for two seconds at most.  Raises KernelError.
        """
        pending, self._pending = self._pending, []
        reports: dict[Wish, Report] = {}
        drops = _drops() if pending else None
        for one in pending:
            if self._has_been(one, drops):
                self._programs.entries.delete(one.where)
                reports[one.wish] = Report(one.wish, carried=True, unread=one.unread)
                continue
            self._check(replace(one, errno=inject(self._raw, one.packet(), one.pair.here)), reports)
        return [one for one in reports.values() if not one.pending]

    def carry(
        self,
        connection: socket.socket,
        targets: Sequence[socket.socket],
        owners: Collection[int] = (),
    ) -> Report:
        """Carry one connection, and wait until it is settled: up to two seconds.

        Otherwise as ``batch``.  Raises KernelError where the kernel refuses a step; the connection
        is then as it was.
        """
        wish = Wish(connection, unread=True)
        (report,) = self.batch([wish], targets, owners)
        if report.error is not None:
            raise report.error
        while report.pending:
            time.sleep(_AGAIN_SECONDS)
            report = next((one for one in self.settle() if one.wish is wish), report)
        return report

    @property
    def helper(self) -> int:
        """The pid of the process that it has started."""
        return self._guard.pid

    def close(self) -> None:
        """Take the classifier away and end the guard; twice is no error."""
        self._owned.close()

    def _check(self, taken: Taken, reports: dict[Wish, Report]) -> None:
        """Carried, pending or lost."""
        wish, entries = taken.wish, self._programs.entries
        if self._made(taken):
            entries.delete(taken.where)
            reports[wish] = Report(wish, carried=True, unread=taken.unread)
        elif (value := entries.lookup(taken.where)) is None:
            # Its client's reset took the entry out.
            reports[wish] = Report(wish, refused=Refusal.NOT_FOUND)
        elif time.monotonic() < taken.limit:
            self._pending.append(taken)
            self._due = time.monotonic() + _AGAIN_SECONDS
            reports[wish] = Report(wish, pending=True, unread=taken.unread)
        else:
            entries.delete(taken.where)
            # Once more: the kernel answers this one with a reset to the client.
            inject(self._raw, taken.packet(), taken.pair.here)
            said = taken.errno or carry_classifier.refused(value)
            reports[wish] = Report(wish, errno=said)

    def _made(self, taken: Taken) -> bool:
        """The client has somebody to talk to, who may have ended the connection already.

        The classifier does not know it: the kernel makes no child where the queue is full.
        """
        return self._programs.someone(taken.pair)

    def _has_been(self, taken: Taken, drops: int | None) -> bool:
        """It was made, and has ended without a trace: nobody would be there if it was made twice.

        The kernel said that it makes it, its listener got the packet, and it has dropped none for
        want of room since (tcp_v4_syn_recv_sock counts that).  A listener that is not watched does
        not tell: then a request counts as made, since it must not be made twice.
        """
        if taken.drops != drops or self._programs.someone(taken.pair):
            return False
        value = self._programs.entries.lookup(taken.where)
        if value is None:
            return False
        return carry_classifier.reached(value) or bool(
            taken.unread and carry_classifier.took(value)
        )


def _drops() -> int:
    return snmp.read()["TcpExt.ListenDrops"]


def _failed(wish: Wish, error: KernelError) -> Report:
    if error.errno == errno.ENOTCONN:  # it has ended since
        return Report(wish, refused=Refusal.NOT_ESTABLISHED)
    return Report(wish, refused=Refusal.KERNEL, error=error)
