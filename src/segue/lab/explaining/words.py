"""The words for what the model does, for those who know TCP and not the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from segue.lab.explaining.stands import KEPT, LISTENS, ListenerStands
from segue.model.client import Heard
from segue.model.events import (
    Acceptable,
    Choice,
    CookieSent,
    Event,
    Fired,
    Miscounted,
    Misstep,
    Moved,
    Occasion,
    Readable,
    Refusal,
    Refused,
    Stopped,
    Timer,
    Writable,
)
from segue.model.profile import Difference, PostedError
from segue.model.states import State

# How the segments of a story are called where there is little room.
SEGMENTS = {
    "syn": "SYN", "ack": "ACK", "data": "data", "pour": "data", "fin": "FIN", "rst": "RST",
    "synfin": "SYN FIN", "rstack": "RST ACK",
}  # fmt: skip

_SHORT = 10  # of a text that is told as it is in a label

PATCHES = {
    1: "the switch tcp_migrate_req",
    2: "stopped listeners stay in the group",
    3: "the accept queue",
    4: "Fast Open",
    5: "half-open requests",
    6: "the cookie",
    7: "the program",
    8: "the test",
}

TIMERS = {
    Timer.SYN_ACK: "the SYN-ACK timer of {} fires",
    Timer.RETRANSMISSION: "the retransmission timer of {} fires",
    Timer.TAIL_PROBE: "the tail probe of {} is due (RFC 8985, 7)",
    Timer.WINDOW_PROBE: "the window probe of {} is due: its window is shut or too small",
    Timer.DELAYED_ACK: "the delayed ACK for {} is due",
    Timer.KEEPALIVE: "the keepalive timer of {} fires",
    Timer.END: "the time in which old segments of {} may come is over",
}

_REFUSALS = {
    Refusal.HALF_OPEN_ARE_FULL: "{} drops the SYN: it has no room for another half-open request",
    Refusal.QUEUE_IS_FULL: "{} drops the segment: its accept queue is full",
    Refusal.RESERVED: (
        "{} drops the SYN: what is left of tcp_max_syn_backlog is for clients known from before"
    ),
}

_POSTED = {
    PostedError.PENALTIES_WITHOUT_TAIL: "the list of penalties would have no tail",
    PostedError.CANCELLED_REQUEST_IS_A_LISTENER: (
        "the error for a cancelled request would be taken for a listener"
    ),
    PostedError.ALONE_AGAIN_STAYS_CLOSED: "the listener would stay in the closed section",
}

_OCCASIONS = {
    Occasion.STOP: "as {source} stops",
    Occasion.ACK: "as a segment for it arrives",
    Occasion.TIMER: "as its SYN-ACK timer fires",
}

_CHOICES = {
    Choice.PROGRAM: "the program chose {target}",
    Choice.HASH: "the kernel's hash chose {target}",
    Choice.NEIGHBOUR: "{target} is the neighbour that takes the whole queue",
    Choice.CANCELLED: "the program cancels it",
    Choice.NOBODY_LISTENS: "nobody in the group listens",
    Choice.SWITCH_IS_OFF: "tcp_migrate_req is off now",
    Choice.NOT_KEPT: "migration was off when {source} stopped, so {source} has no group",
    Choice.NOT_SHARED: "{source} has no SO_REUSEPORT",
}

_WHAT = {
    State.NEW_SYN_RECV: "the half-open request of {}",
    State.SYN_RECV: "the Fast Open child of {}",
}

COUNTERS = {
    "TCPMigrateReqSuccess": "something has moved to another listener",
    "TCPMigrateReqFailure": "something that was to move found no listener, or no room",
    "ListenOverflows": "an accept queue was full",
    "ListenDrops": "a listener has dropped a segment",
    "EmbryonicRsts": "a handshake was ended by a reset or another SYN",
    "SyncookiesSent": "a SYN was answered with a cookie, and nothing kept",
    "SyncookiesRecv": "an ACK brought a right cookie back",
    "SyncookiesFailed": "an ACK without a request brought no right cookie",
    "TCPReqQFullDoCookies": "no room for a half-open request: a cookie instead",
    "TCPReqQFullDrop": "no room for a half-open request, and no cookies: dropped",
    "TCPDeferAcceptDrop": "the ACK of a deferred handshake: it waits for data",
    "TCPFastOpenCookieReqd": "a Fast Open cookie was asked for",
    "TCPFastOpenPassive": "a child was made from a SYN with data",
    "TCPFastOpenPassiveFail": "a wrong Fast Open cookie",
    "TCPFastOpenListenOverflow": "no Fast Open slot was left",
    "TCPAbortOnClose": "reset at close(): data was not read",
    "TCPAbortOnData": "reset: data came for nobody, or SO_LINGER 0",
    "TCPTimeouts": "a retransmission or SYN-ACK timer fired",
    "TCPLossProbes": "a tail probe was sent",
    "TCPSynRetrans": "a SYN-ACK was sent again",
    "TCPChallengeACK": "a doubtful segment was answered with an ACK (RFC 5961)",
}


def of_arrival(verb: str, rest: list[str]) -> str:
    """A segment of a client in few words."""
    text = " ".join(rest)
    if text.startswith("@"):
        text = f"{text[1:]} bytes"
    elif len(text) > _SHORT:
        text = f"{len(text)} bytes"
    return f"{SEGMENTS[verb]} {text}".rstrip()


def of_heard(heard: Heard) -> str:
    """A segment of the server in few words."""
    names = heard.names.replace("PSH ACK", "data").replace("PSH ", "")
    size = len(heard.payload)
    if size:
        text = heard.payload.decode("ascii", "replace")
        names = names.replace("ACK", "data") if "data" not in names else names
        return f"{names} {text if size <= _SHORT else f'{size} bytes'}"
    if heard.ranges:
        return f"{names} sack {' '.join(f'{low}-{high}' for low, high in heard.ranges)}"
    return names


def of_move(event: Moved, client: str, source: str, target: str) -> str:
    """From whom to whom, in which state, on which occasion, and by whose word."""
    what = _WHAT.get(event.state, "the child of {}").format(client)
    when = _OCCASIONS[event.occasion].format(source=source)
    why = _CHOICES[event.choice].format(source=source, target=target)
    goes = f"moves from {source} to {target}" if target else "goes nowhere and is lost"
    return f"{what} [{event.state.name}] {goes}, {when}: {why}"


def of_carry(client: str, name: str, target: str) -> str:
    """From the program that has it to a queue; ``name`` is the program's for it."""
    return (
        f"the connection of {client} is carried from {name} into the queue of {target}: forgotten"
        " without a word, and made again from the last segment of its client"
    )


def rows_of(event: Moved) -> tuple[str, ...]:
    """Which patches of the series it is about, and where Linux departs from them."""
    patches: list[int] = []
    differ: list[Difference] = []
    if event.choice in (Choice.NOT_KEPT, Choice.SWITCH_IS_OFF):
        patches.append(2)
        differ += [Difference.SWITCH_IS_READ_AT_CLOSE, Difference.PROGRAM_IS_A_SWITCH]
    if event.occasion is Occasion.STOP:
        patches.append(3)
        differ.append(Difference.CHILD_BY_CHILD)
        if event.state is State.SYN_RECV:
            patches.append(4)
            differ.append(Difference.FAST_OPEN_SLOT_STAYS)
    else:
        patches.append(5)
        differ += [Difference.HASH_IS_THE_REQUESTS] * (event.choice is Choice.HASH)
        differ += [Difference.MOVES_WITH_ITS_CHILD] * (event.occasion is Occasion.ACK)
    if event.choice in (Choice.PROGRAM, Choice.CANCELLED):
        patches.append(7)
        differ += [Difference.ASKED_BY_ATTACH_TYPE, Difference.TOLD_WHAT_MIGRATES]
    return (*(f"{number}/8" for number in sorted(patches)), *(one.name for one in differ))


def of_standing(one: ListenerStands) -> list[str]:
    """How a listener stands, a line for each thing; nothing before it listens or after its end."""
    if not one.is_there:
        return []
    found = [one.state]
    if one.half_open or one.counted:
        believes = "" if one.counted == len(one.half_open) else f" (counts {one.counted})"
        found.append(f"half-open: {' '.join(one.half_open) or 'none'}{believes}")
    if one.queue:
        found.append(f"queue: {' '.join(one.queue)}")
    if one.is_live and len(one.queue) >= one.room:
        found.append(f"full: {len(one.queue)} of {one.room}")
    if one.slots is not None:
        found.append(f"slots: {one.slots[0]} of {one.slots[1]}")
    return found


def of_rows(rows: tuple[str, ...]) -> str:
    """Those of a move, the patches with their subjects; "" where there are none."""
    if not rows:
        return ""
    told = [f"{row} ({of_row(row)})" if row.endswith("/8") else row for row in rows]
    return f"rows: {', '.join(told)}"


def of_row(row: str) -> str:
    """A row in a sentence: of a patch its subject, of a difference what both do."""
    if row.endswith("/8"):
        return PATCHES[int(row[0])]
    one = Difference[row]
    return f"series: {one.series}; Linux: {one.linux}".replace("`", "")


def of_change(before: str, now: str, name: str, half_open: tuple[str, ...]) -> str:
    """A listener's state has changed."""
    if now == LISTENS:
        return f"{name} listens again, as the last of its group"
    if before == KEPT:
        return f"nothing refers to {name} any more: its group forgets it"
    if half_open:
        *most, last = half_open
        who = f"{', '.join(most)} and {last} are" if most else f"{last} is"
        return f"{who} still half-open, and still with {name}"
    return ""


def of_event(
    event: Event, name: Callable[[int], str], listeners: Mapping[str, ListenerStands]
) -> str:
    """A note; "" for what is shown otherwise: moves, and what epoll reports."""
    match event:
        case Stopped(listener, kept):
            if kept:
                return (
                    f"{name(listener)} stops; migration is on, so that its group keeps it, closed"
                )
            return f"{name(listener)} stops and leaves its group: migration is off"
        case Fired(cookie, timer):
            return TIMERS[timer].format(name(cookie))
        case Refused(listener, reason):
            said = _REFUSALS[reason].format(name(listener))
            counts = listeners[name(listener)].counted
            if counts < 0 and reason is Refusal.HALF_OPEN_ARE_FULL:
                said += f" (it counts {counts}, and compares that without a sign)"
            return said
        case CookieSent(listener):
            return f"{name(listener)} answers with a SYN cookie, and keeps nothing"
        case Miscounted(cookie, kept_by, counted_out):
            return (
                f"{name(cookie)} was counted in at {name(kept_by)} and is counted out at"
                f" {name(counted_out)}, which now believes to have one too few"
                " (docs/LINUX.md, count)"
            )
        case Misstep(error):
            return f"the code of the series, as posted, would err here: {_POSTED[error]}"
        case Moved() | Acceptable() | Readable() | Writable():
            return ""
