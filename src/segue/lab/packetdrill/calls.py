"""A call of a script in the terms in which both sides are asked, and what it is to tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segue.errors import UsageError
from segue.lab.packetdrill import constants
from segue.lab.packetdrill.script import (
    Call,
    Expression,
    Items,
    Number,
    Record,
    Text,
    Union,
    Whatever,
    Word,
)

Given = tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a side is asked to do, by its method ``_VERB``; ``made`` is the descriptor that a new
    socket gets.

    ``told`` is what the call must write into its arguments, in words; None where any will do.
    """

    verb: str
    fd: int = -1
    size: int = 0
    flags: int = 0
    option: str = ""
    value: int = 0
    data: bytes = b""
    entries: tuple[tuple[int, int], ...] = ()  # descriptors and events
    made: int = -1
    told: str | None = None


def ask(call: Call) -> Ask:
    """Raises UsageError for a call that the lab does not make, or makes otherwise."""
    if call.name in _NOT_ASKED:
        raise UsageError(f"the lab does not call {call.name}(): {_NOT_ASKED[call.name]}")
    if call.name not in _CALLS:
        raise UsageError(f"the lab does not call {call.name}()")
    least, make = _CALLS[call.name]
    if len(call.arguments) < least:
        raise UsageError(f"{call.name}() has {least} arguments here, not {len(call.arguments)}")
    return make(call, call.arguments)


_ACTIVE = "active opens are not asked of a listening side"
_NO_OPTIONS = {
    "SO_ZEROCOPY": "zerocopy has a queue of errors, which is not asked",
    "SO_TIMESTAMPING": "the times of packets have a queue of errors, which is not asked",
    "TCP_FASTOPEN_CONNECT": _ACTIVE,
}
_NOT_ASKED = {
    "connect": _ACTIVE,
    "splice": "a pipe is no part of TCP",
    "sendfile": "a file is no part of TCP",
    "pipe": "a pipe is no part of TCP",
    "open": "a file is no part of TCP",
}


def number(given: Expression, what: str) -> int:
    """A number, a constant's, or the bits of several.  Raises UsageError."""
    match given:
        case Number(value):
            return value
        case Union(parts):
            bits = 0
            for part in parts:
                bits |= number(part, what)
            return bits
        case Word(name):
            found = constants.number(name)
            if found is not None:
                return found
            raise UsageError(f"{what}: the lab does not know {name}")
        case Items((only,)):
            return number(only, what)
    raise UsageError(f"{what}: expected a number")


def _name(given: Expression, what: str) -> str:
    if isinstance(given, Word):
        return given.name
    raise UsageError(f"{what}: expected the name of a constant")


def _fd(given: Expression) -> int:
    return number(given, "the descriptor")


def _socket(call: Call, given: Given) -> Ask:
    kind = number(given[1], "the type")
    if kind & 0xF != 1:
        raise UsageError("the lab has sockets of type SOCK_STREAM only")
    return Ask("socket", flags=kind & ~0xF, made=call.result or 0)


def _bind(_: Call, given: Given) -> Ask:
    return Ask("bind", _fd(given[0]))


def _listen(_: Call, given: Given) -> Ask:
    return Ask("listen", _fd(given[0]), number(given[1], "the backlog"))


def _accept(call: Call, given: Given) -> Ask:
    flags = number(given[3], "the flags") if len(given) > 3 else 0
    return Ask("accept", _fd(given[0]), flags=flags, made=call.result or 0)


def _setsockopt(_: Call, given: Given) -> Ask:
    option, value = _name(given[2], "the option"), given[3]
    if option in _NO_OPTIONS:
        raise UsageError(f"the lab does not set {option}: {_NO_OPTIONS[option]}")
    if isinstance(value, Text):
        return Ask("setsockopt", _fd(given[0]), option=option, data=_bytes(value, given[4]))
    if isinstance(value, Record):
        on, seconds = (_field(value, name) for name in ("onoff", "linger"))
        linger = number(seconds, "l_linger") if number(on, "l_onoff") else -1
        return Ask("setsockopt", _fd(given[0]), option=option, value=linger)
    return Ask("setsockopt", _fd(given[0]), option=option, value=number(value, option))


def _bytes(text: Text, size: Expression) -> bytes:
    try:
        data = text.value.encode("latin-1").decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise UsageError("the value: expected bytes, such as \\x0a") from None
    return data[: number(size, "the size")]


def _field(record: Record, name: str) -> Expression:
    if name not in record.fields:
        raise UsageError(f"expected a field {name}=")
    return record.fields[name]


def _getsockopt(_: Call, given: Given) -> Ask:
    option, value = _name(given[2], "the option"), given[3]
    told = None
    if isinstance(value, Items):
        (only,) = value.parts or (Whatever(),)
        # The kernel has 32 bits, of which some scripts show the highest as a sign.
        told = None if isinstance(only, Whatever) else str(number(only, option) & 0xFFFFFFFF)
    return Ask("getsockopt", _fd(given[0]), option=option, told=told)


def _fcntl(_: Call, given: Given) -> Ask:
    command = _name(given[1], "the command")
    verbs = {"F_GETFL": "getfl", "F_SETFL": "setfl"}
    if command not in verbs:
        raise UsageError(f"the lab knows F_GETFL and F_SETFL of fcntl(), not {command}")
    flags = number(given[2], "the flags") if len(given) > 2 else 0
    return Ask(verbs[command], _fd(given[0]), flags=flags)


def _read(_: Call, given: Given) -> Ask:
    _anything(given[1])
    flags = number(given[3], "the flags") if len(given) > 3 else 0
    return Ask("read", _fd(given[0]), number(given[2], "the size"), flags)


def _anything(buffer: Expression) -> None:
    if not isinstance(buffer, Whatever | Text):
        raise UsageError("the lab passes no bad addresses: expected ... for the data")


def _write(_: Call, given: Given) -> Ask:
    _anything(given[1])
    flags = number(given[3], "the flags") if len(given) > 3 else 0
    return Ask("write", _fd(given[0]), number(given[2], "the size"), _sending(flags))


def _sending(flags: int) -> int:
    for name, why in (
        ("MSG_ZEROCOPY", _NO_OPTIONS["SO_ZEROCOPY"]),
        ("MSG_EOR", "the end of a record is not asked"),
        ("MSG_FASTOPEN", _ACTIVE),
    ):  # fmt: skip
        if flags & (constants.number(name) or 0):
            raise UsageError(f"the lab does not send with {name}: {why}")
    return flags


def _vector(given: Given) -> int:
    """The sizes of ``[{..., 40}, {..., 2}]`` together."""
    if not isinstance(given[1], Items):
        raise UsageError("expected the buffers between brackets")
    return _sizes(given[1])


def _sizes(given: Items) -> int:
    total = 0
    for one in given.parts:
        if not isinstance(one, Record) or len(one.rest) != 2:
            raise UsageError("expected a buffer such as {..., 1000}")
        total += number(one.rest[1], "the size")
    return total


def _message(given: Expression) -> tuple[Record, int]:
    if not isinstance(given, Record):
        raise UsageError("expected a message between braces")
    vector = given.fields.get("msg_iov", Items(()))
    if not isinstance(vector, Items):
        raise UsageError("msg_iov: expected the buffers between brackets")
    return given, _sizes(vector)


def _sendmsg(_: Call, given: Given) -> Ask:
    message, size = _message(given[1])
    if message.fields.get("msg_control", Items(())) != Items(()):
        raise UsageError("the lab sends no control messages")
    return Ask("write", _fd(given[0]), size, _sending(number(given[2], "the flags")))


def _recvmsg(_: Call, given: Given) -> Ask:
    message, size = _message(given[1])
    flags = number(given[2], "the flags")
    if flags & (constants.number("MSG_ERRQUEUE") or 0):
        raise UsageError("the lab does not read the queue of errors")
    control = message.fields.get("msg_control")
    told = None
    if isinstance(control, Items):
        told = " ".join(_control(one) for one in control.parts)
    return Ask("recvmsg", _fd(given[0]), size, flags, told=told)


def _control(given: Expression) -> str:
    if not isinstance(given, Record):
        raise UsageError("expected a control message between braces")
    kind = _field(given, "cmsg_type")
    if kind != Word("TCP_CM_INQ"):
        raise UsageError("of control messages the lab knows TCP_CM_INQ")
    return f"TCP_CM_INQ {number(_field(given, 'cmsg_data'), 'cmsg_data')}"


def _close(_: Call, given: Given) -> Ask:
    return Ask("close", _fd(given[0]))


def _shutdown(_: Call, given: Given) -> Ask:
    return Ask("shutdown", _fd(given[0]), flags=number(given[1], "which side"))


def _poll(_: Call, given: Given) -> Ask:
    if not isinstance(given[0], Items):
        raise UsageError("expected the descriptors between brackets")
    entries, found = [], []
    for one in given[0].parts:
        if not isinstance(one, Record):
            raise UsageError("expected a descriptor such as {fd=4, events=POLLIN}")
        entries.append((_fd(_field(one, "fd")), number(_field(one, "events"), "events")))
        found.append(number(one.fields.get("revents", Number(0)), "revents"))
    return Ask(
        "poll", value=number(given[2], "the timeout"), entries=tuple(entries),
        told=events_told(zip((fd for fd, _ in entries), found, strict=True)),
    )  # fmt: skip


def _epoll_create(call: Call, _: Given) -> Ask:
    return Ask("epoll_create", made=call.result or 0)


def _epoll_ctl(_: Call, given: Given) -> Ask:
    event = given[3]
    if not isinstance(event, Record):
        raise UsageError("expected an event such as {events=EPOLLIN, fd=4}")
    wanted = (_fd(given[2]), number(_field(event, "events"), "events"))
    return Ask("epoll_ctl", _fd(given[0]), option=_name(given[1], "the change"), entries=(wanted,))


def _epoll_wait(call: Call, given: Given) -> Ask:
    events = given[1].parts if isinstance(given[1], Items) else (given[1],)
    found = [
        (_fd(one.fields["fd"]), number(_field(one, "events"), "events"))
        for one in events
        if isinstance(one, Record) and "fd" in one.fields and call.result
    ]
    return Ask(
        "epoll_wait", _fd(given[0]), number(given[2], "the most"),
        value=number(given[3], "the timeout"), told=events_told(found),
    )  # fmt: skip


def _ioctl(_: Call, given: Given) -> Ask:
    told = None if isinstance(given[2], Whatever) else str(number(given[2], "the value"))
    return Ask("ioctl", _fd(given[0]), option=_name(given[1], "the request"), told=told)


def events_told(entries: Iterable[tuple[int, int]]) -> str:
    """Of poll() and epoll_wait(): what of which descriptor."""
    pairs = sorted(entries)
    return " ".join(f"{fd}:{events:#x}" for fd, events in pairs)


_CALLS: dict[str, tuple[int, Callable[[Call, Given], Ask]]] = {
    "socket": (3, _socket),
    "bind": (3, _bind),
    "listen": (2, _listen),
    "accept": (3, _accept),
    "accept4": (4, _accept),
    "setsockopt": (5, _setsockopt),
    "getsockopt": (5, _getsockopt),
    "fcntl": (2, _fcntl),
    "read": (3, _read),
    "recv": (4, _read),
    "recvfrom": (4, _read),
    "write": (3, _write),
    "send": (4, _write),
    "sendto": (4, _write),
    "writev": (2, lambda _, given: Ask("write", _fd(given[0]), _vector(given))),
    "readv": (2, lambda _, given: Ask("read", _fd(given[0]), _vector(given))),
    "sendmsg": (3, _sendmsg),
    "recvmsg": (3, _recvmsg),
    "close": (1, _close),
    "shutdown": (2, _shutdown),
    "poll": (3, _poll),
    "epoll_create": (1, _epoll_create),
    "epoll_create1": (1, _epoll_create),
    "epoll_ctl": (4, _epoll_ctl),
    "epoll_wait": (4, _epoll_wait),
    "ioctl": (3, _ioctl),
}
