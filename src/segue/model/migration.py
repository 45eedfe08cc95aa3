"""The mechanism itself: a listener stops, and what waited in it goes to another.

Three occasions, and nothing else ever moves (docs/MODEL.md has a section for each):
    1. ``stop``: close() and shutdown() empty the accept queue, oldest first
       (inet_csk_listen_stop; in the series all of it at once: whole_queue.py);
    2. ``at_ack``: a final ACK finds that its request's listener no longer listens (tcp_v4_rcv);
    3. ``at_timer``: so does the SYN-ACK timer (reqsk_timer_handler).
Half-open requests are not looked for at ``stop``: nothing lists them by listener.  That is why the
closed section exists, and why both the switch then and the switch now matter.
"""

from __future__ import annotations

from math import inf

from segue.model import output, removal, whole_queue
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.events import Acceptable, Choice, Miscounted, Misstep, Moved, Occasion, Stopped
from segue.model.group import Group
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.profile import Difference, PostedError
from segue.model.program import Question
from segue.model.request import Request
from segue.model.states import CLOSE, NEED_RESET, State

# Who has a half-open request next; its own listener, while that listens, by no choice.
Destination = tuple[Listener, Choice | None]
SUCCESS, FAILURE = "TCPMigrateReqSuccess", "TCPMigrateReqFailure"
_HASH_OF_LISTENER = 0  # sk_hash is of connections


def stop(net: Net, listener: Listener) -> None:
    """It listens no more: its children move, or are reset."""
    group = listener.group
    assert group is not None
    listener.state = CLOSE
    keep = group.migrates(net.profile, net.sysctls.tcp_migrate_req)
    neighbour = group.stop(listener, keep=keep)
    net.events.append(Stopped(listener.cookie, keep))
    if not group.live:
        # Who listens here next finds no group to join, and begins another without the program.
        net.groups.pop(group.endpoint, None)
    heir = neighbour if keep and group.shared else None
    choice = _why_not(group, keep=keep)
    if Difference.CHILD_BY_CHILD in net.profile:
        while listener.queue:
            _move_child(net, listener, listener.queue.popleft())
    elif heir is not None:
        question = Question(_HASH_OF_LISTENER, None, listener.cookie)
        heir, choice = group.select_for_migration(question, net.profile, heir)
        if heir is not None:
            whole_queue.move(net, listener, heir, choice)
    if heir is not None and Difference.FAST_OPEN_PENALTY_ENDS not in net.profile:
        whole_queue.move_penalties(net, listener, heir)
    while listener.queue:
        child = listener.queue.popleft()
        net.events.append(
            Moved(child.cookie, child.state, listener.cookie, None, Occasion.STOP, choice)
        )
        _forget_child(net, child)
    removal.take_penalties(listener)  # those that did not move end here


def _why_not(group: Group, *, keep: bool) -> Choice:
    """Why a whole queue goes to nobody, unless something else is found to decide it."""
    if not group.shared:
        return Choice.NOT_SHARED
    return Choice.NOBODY_LISTENS if keep else Choice.NOT_KEPT


def target_for(
    net: Net,
    listener: Listener,
    number: int,
    migrating: Request | Connection,
    state: State,
    length: int = 0,
    flags: int = 0,
) -> tuple[Listener | None, Choice]:
    """The listener that gets it, and what decided it; None, and counted, if none does
    (reuseport_migrate_sock).

    A listener that was not kept in the closed section has no group to ask: not even that counts.
    """
    group = listener.group
    if group is None:
        return None, Choice.NOT_KEPT
    if not group.shared:
        return None, Choice.NOT_SHARED
    found, choice = None, Choice.SWITCH_IS_OFF
    if group.migrates(net.profile, net.sysctls.tcp_migrate_req):
        if Difference.HASH_IS_THE_REQUESTS not in net.profile:
            number = _HASH_OF_LISTENER
        if Difference.TOLD_WHAT_MIGRATES in net.profile:
            question = Question(
                number, migrating.path, listener.cookie, state, migrating.cookie, length, flags
            )
        else:
            question = Question(number, None, listener.cookie)
        found, choice = group.select_for_migration(question, net.profile)
    if found is None:
        failed(net)
    return found, choice


def failed(net: Net) -> None:
    """Nobody took it, or not now."""
    if Difference.MIGRATIONS_ARE_COUNTED in net.profile:
        net.counts[FAILURE] += 1


def _succeeded(net: Net) -> None:
    if Difference.MIGRATIONS_ARE_COUNTED in net.profile:
        net.counts[SUCCESS] += 1


def _move_child(net: Net, source: Listener, child: Connection) -> None:
    state = child.state
    target, choice = target_for(net, source, child.hash, child, state)
    to = None if target is None else target.cookie
    net.events.append(Moved(child.cookie, state, source.cookie, to, Occasion.STOP, choice))
    if target is None:
        _forget_child(net, child)
        return
    request = child.request
    if request is not None:
        _move_slot(net, request, target)
    # No look at target.full: what migrates may fill a queue past its backlog (FACTS, backlog).
    child.listener = target
    target.queue.append(child)
    _succeeded(net)
    if Difference.TARGET_IS_WOKEN in net.profile:
        net.events.append(Acceptable(target.cookie))


def _forget_child(net: Net, child: Connection) -> None:
    """Nobody takes it: its peer is reset (inet_child_forget)."""
    if child.state in NEED_RESET:
        output.abort(net, child)
    child.listener = None
    removal.orphan(net, child)
    request, child.request = child.request, None
    if request is not None:
        removal.release(request.listener)
    if child.held is not None:
        removal.release(child.held)
        child.held = None
    if child.state is not CLOSE:
        removal.end(net, child)


def _move_slot(net: Net, request: Request, target: Listener) -> None:
    source = request.listener
    request.listener = target
    target.references += 1
    removal.release(source)
    if Difference.FAST_OPEN_SLOT_STAYS not in net.profile:
        source.fast_open.used -= 1
        target.fast_open.used += 1


def _target_of(
    net: Net, request: Request, length: int = 0, flags: int = 0
) -> tuple[Listener | None, Choice]:
    """Of a half-open request whose listener has stopped."""
    source = request.listener
    found, choice = target_for(
        net, source, request.hash, request, State.NEW_SYN_RECV, length, flags
    )
    cancelled = found is None and source.group is not None and bool(source.group.live)
    if cancelled and Difference.MOVES_WITH_ITS_CHILD not in net.profile:
        net.events.append(Misstep(PostedError.CANCELLED_REQUEST_IS_A_LISTENER))
    return found, choice


def at_ack(net: Net, request: Request, arrival: Arrival) -> Destination | None:
    """The listener that makes a child of it; if None, the request is dropped."""
    source = request.listener
    if source.listening:
        return source, None
    target, choice = _target_of(net, request, arrival.size, arrival.flags)
    if target is None:
        _moved(net, request, None, Occasion.ACK, choice)
        drop(net, request)
        return None
    found = target, choice
    if Difference.MOVES_WITH_ITS_CHILD not in net.profile:
        settle(net, request, found, Occasion.ACK)
    return found


def at_timer(net: Net, request: Request) -> Destination | None:
    """The listener that repeats its SYN-ACK, or None.  ``settle`` ends what begins here."""
    source = request.listener
    if source.listening:
        return source, None
    target, choice = _target_of(net, request)
    if target is None:
        _moved(net, request, None, Occasion.TIMER, choice)
        return None
    found = target, choice
    if Difference.MOVES_WITH_ITS_CHILD not in net.profile:
        settle(net, request, found, Occasion.TIMER)
    return found


def _moved(
    net: Net, request: Request, target: Listener | None, occasion: Occasion, choice: Choice
) -> None:
    state, source = State.NEW_SYN_RECV, request.listener.cookie
    to = None if target is None else target.cookie
    net.events.append(Moved(request.cookie, state, source, to, occasion, choice))


def settle(net: Net, request: Request, found: Destination, occasion: Occasion) -> None:
    """The request refers to its target from now on (inet_reqsk_clone at the timer).

    Where it does already, nothing happens.
    """
    target, choice = found
    if target is request.listener or choice is None:
        return
    _moved(net, request, target, occasion, choice)
    count_out(request)
    request.listener = target
    target.requests += 1
    target.references += 1
    if not request.timeouts:
        target.young += 1
    _succeeded(net)


def count_out(request: Request, counted: Listener | None = None) -> None:
    """Its listener, or the one said, has one half-open request less (reqsk_queue_removed)."""
    listener = request.listener if counted is None else counted
    listener.requests -= 1
    if not request.timeouts:
        listener.young -= 1
    removal.release(request.listener)


def drop(net: Net, request: Request, target: Listener | None = None) -> None:
    """Forget a half-open request; no packet is sent (inet_csk_reqsk_queue_drop).

    ``target`` is the listener that was about to get it: Linux counts it out there, though it was
    counted in at the old one (Difference.MOVES_WITH_ITS_CHILD).
    """
    if net.flows.get(request.flow) is request:
        del net.flows[request.flow]
    if target is not None and target is not request.listener:
        kept_by = request.listener.cookie
        net.events.append(Miscounted(request.cookie, kept_by, target.cookie))
    count_out(request, target)
    net.timers.set(request, inf)


def joined(net: Net, request: Request, found: Destination) -> None:
    """A child has taken the place of a request: count it if it came from elsewhere."""
    target, choice = found
    if target is not request.listener and choice is not None:
        _succeeded(net)
        _moved(net, request, target, Occasion.ACK, choice)
    count_out(request)
    net.timers.set(request, inf)
