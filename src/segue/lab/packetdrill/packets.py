"""What stands after ``<`` and ``>``: a TCP segment, or an ICMP message about one."""

from __future__ import annotations

from segue.lab.packetdrill.cursor import Cursor
from segue.lab.packetdrill.lexer import Kind
from segue.lab.packetdrill.script import Icmp, Option, Segment
from segue.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG

_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "U": URG, "E": ECE, "W": CWR}
_ECN = {"noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}
_NUMBER, _WINDOW, _BYTE = 2**32 - 1, 2**16 - 1, 2**8 - 1
_LONGEST = 65535  # an IP packet's
_COOKIE = 32  # hexadecimal digits at most (RFC 7413, 2)
_OTHERS = {
    "udp": "datagrams of UDP", "gre": "GRE", "mpls": "MPLS", "ipv4": "IP in IP", "ipv6": "IP in IP",
    "md5": "TCP MD5 signatures", "ECN": "accurate ECN", "e0b": "accurate ECN",
    "encap": "encapsulation",
}  # fmt: skip


def packet(cursor: Cursor) -> Segment | Icmp:
    """From the direction on."""
    outbound = cursor.take().text == ">"
    ecn = _ip_info(cursor)
    if cursor.word("icmp"):
        if outbound:
            cursor.refuse("no listening side sends ICMP: expected '<' before it")
        return _icmp(cursor)
    if cursor.is_word(*_OTHERS):
        cursor.refuse(f"the lab has no {_OTHERS[cursor.token.text]}: expected a TCP segment")
    ports = None
    if cursor.token.kind is Kind.NUMBER and cursor.ahead().text == ">":
        first = cursor.number("a port", _WINDOW)
        cursor.take()
        ports = (first, cursor.number("a port", _WINDOW))
    flags = _flags(cursor)
    seq, size = _sequence(cursor)
    ack = cursor.number("the number acknowledged", _NUMBER) if cursor.word("ack") else None
    if outbound and (ack is not None) != bool(flags & ACK):
        wanted = "'ack NUMBER' after a '.' in the flags" if ack is None else "a '.' in the flags"
        cursor.refuse(f"expected {wanted}")
    window = cursor.number("the window", _WINDOW) if cursor.word("win") else None
    urgent = cursor.number("the urgent pointer", _WINDOW) if cursor.word("urg") else 0
    options = _options(cursor) if cursor.symbol("<") else ()
    return Segment(outbound, flags, seq, size, ack, window, urgent, options, ecn, ports)


def _ip_info(cursor: Cursor) -> int | None:
    for opening, closing in (("[", "]"), ("(", ")")):
        if cursor.symbol(opening):
            word = cursor.need_word("one of noecn, ect0, ect1, ce")
            if word not in _ECN:
                cursor.refuse(f"the lab knows noecn, ect0, ect1 and ce here, not {word}")
            cursor.need(closing, "after that")
            return _ECN[word]
    return None


def _flags(cursor: Cursor) -> int:
    token = cursor.token
    if cursor.symbol("-"):
        return 0
    flags = 0
    if token.kind is Kind.WORD:
        cursor.take()
        for letter in token.text:
            if letter == "A" or letter.isdigit():
                cursor.refuse("the lab has no accurate ECN: expected flags of FSRPUEW", token)
            if letter not in _LETTERS:
                cursor.refuse(f"{letter!r} is no flag: expected some of FSRPUEW", token)
            flags |= _LETTERS[letter]
    if cursor.symbol("."):
        return flags | ACK
    if cursor.token.kind is Kind.FLOAT:
        cursor.refuse("the lab has no accurate ECN: expected a '.' and a space")
    if token.kind is not Kind.WORD:
        cursor.refuse("expected the flags of a segment, such as S, P. or -")
    return flags


def _sequence(cursor: Cursor) -> tuple[int, int]:
    first = cursor.token
    start = cursor.number("the first sequence number", _NUMBER)
    cursor.need(":", "after the first sequence number")
    end = cursor.number("the sequence number after the last", _NUMBER)
    cursor.need("(", "before the length")
    size = cursor.number("the length", _LONGEST)
    cursor.need(")", "after the length")
    if (end - start) % 2**32 != size:
        cursor.refuse(f"{start}:{end} are not {size} bytes", first)
    return start, size


def _options(cursor: Cursor) -> tuple[Option, ...] | None:
    if cursor.symbol("..."):
        cursor.need(">", "after the options")
        return None
    found: list[Option] = []
    while True:
        found.append(_option(cursor))
        if cursor.symbol(">"):
            return tuple(found)
        cursor.need(",", "or '>' after an option")


def _option(cursor: Cursor) -> Option:
    if cursor.is_word(*_OTHERS):
        cursor.refuse(f"the lab has no {_OTHERS[cursor.token.text]}: expected a TCP option")
    token = cursor.token
    name = cursor.need_word("a TCP option, such as mss, sackOK or nop")
    if name in {"nop", "eol", "sackOK"}:
        return Option(name)
    if name == "mss":
        return Option(name, (cursor.number("the largest segment", _WINDOW),))
    if name == "wscale":
        return Option(name, (cursor.number("the window's scale", _BYTE),))
    if name == "TS":
        if not cursor.word("val"):
            cursor.refuse("expected 'val' and the stamp")
        value = cursor.number("the stamp", _NUMBER)
        if not cursor.word("ecr"):
            cursor.refuse("expected 'ecr' and the stamp that is echoed")
        return Option(name, (value, cursor.number("the stamp that is echoed", _NUMBER)))
    if name == "sack":
        edges: list[int] = []
        while cursor.token.kind is Kind.NUMBER:
            edges.append(cursor.number("the edge of a block", _NUMBER))
            cursor.need(":", "between the edges of a block")
            edges.append(cursor.number("the edge of a block", _NUMBER))
        if not 0 < len(edges) <= 8:
            cursor.refuse("expected one to four blocks, such as 1001:2001")
        return Option(name, tuple(edges))
    if name in {"FO", "FOEXP"}:
        return Option(name, (), _cookie(cursor))
    return cursor.refuse(f"{name!r} is no option that the lab knows", token)


def _cookie(cursor: Cursor) -> bytes:
    token = cursor.token
    if token.kind not in {Kind.NUMBER, Kind.WORD} or token.text in {"nop", "sackOK", "eol"}:
        return b""
    cursor.take()
    try:
        cookie = bytes.fromhex(token.text)
    except ValueError:
        cookie = None
    if cookie is None or len(token.text) > _COOKIE:
        cursor.refuse("expected a cookie of up to 16 bytes in hexadecimal", token)
    return cookie


def _icmp(cursor: Cursor) -> Icmp:
    kind = cursor.need_word("the type of the message, such as unreachable")
    code = ""
    if cursor.token.kind is Kind.WORD and not cursor.is_word("mtu"):
        code = cursor.take().text
    mtu = cursor.number("the largest packet", _LONGEST) if cursor.word("mtu") else None
    seq, size = None, 0
    if cursor.symbol("["):
        seq, size = _sequence(cursor)
        cursor.need("]", "after the segment")
    if cursor.word("mtu"):
        mtu = cursor.number("the largest packet", _LONGEST)
    return Icmp(kind, code, mtu, seq, size)
