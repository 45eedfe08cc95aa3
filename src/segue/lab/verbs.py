"""The language of stories: what each verb takes and means, and whether a story keeps to it.

``SHAPES`` is the one list: ``segue lab explain --verbs`` prints it, and ``check`` reads it.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable

from segue.errors import UsageError
from segue.lab.policies import named
from segue.model.sysctls import Sysctls

# Verb -> its arguments and what it does.  L is a listener, X an accepted connection, S either of
# them, C a client; what is in brackets may be left out.
SHAPES: dict[str, tuple[str, str]] = {
    "ipv6": ("", "before anything else: all of it is IPv6"),
    "mtu": ("NUMBER", "before anything else: of the interface"),
    "sysctl": ("SYSCTL NUMBER", "under net.ipv4"),
    "listen": ("L [NUMBER]", "a new listener, or one that was shut down; or a new backlog (16)"),
    "option": ("NAME OPTION NUMBER", "setsockopt(), also of a listener to be, before it listens"),
    "ask": ("S OPTION", "getsockopt()"),
    "info": ("S", "the main fields of TCP_INFO"),
    "close": ("S", "close()"),
    "shutdown": (
        "S [SIDE]",
        "shutdown() of a listener, or of one side of a connection: read, write",
    ),
    "program": ("L POLICY [select]", "for L's group; with select it is asked of new ones only"),
    "send": ("L L", "what leaves the first goes to the second, by the policy by_cookie"),
    "woken": ("L", "whether who waits for its connections was woken meanwhile"),
    "accept": ("L X", "the oldest child of L, as X"),
    "carry": (
        "X",
        "from who has it into the queue of the listener that the group selects (docs/CARRY.md)",
    ),
    "read": ("X", "what has arrived"),
    "write": ("X TEXT", "to its client"),
    "syn": ("C [TEXT]", "a client begins; with a text by Fast Open"),
    "ack": ("C", "an ACK of all that it has heard"),
    "data": ("C TEXT", "an ACK with data"),
    "pour": ("C TEXT NUMBER", "the same in segments of so many bytes, at once, the last with PSH"),
    "fin": ("C", "its end"),
    "rst": ("C", "a reset"),
    "synfin": ("C", "SYN and FIN in one"),
    "rstack": ("C", "a reset with an ACK"),
    "offer": (
        "C [OFFER ...]",
        (
            "before its syn, which then has these options alone: mss=NUMBER, scale=NUMBER, sack,"
            " stamps, cookie (the Fast Open cookie that was given last; if none was, one is asked"
            " for), cookie=wrong"
        ),
    ),
    "skip": ("C NUMBER", "its next segment is so far on, or, negative, back"),
    "claim": ("C NUMBER", "its next segment acknowledges so much more than it has heard, or less"),
    "lose": (
        "C NUMBER",
        "of the segments of data that it is sent next the one of this number is lost on the way",
    ),
    "window": ("C NUMBER", "the window field of its next segments (500)"),
    "stamp": ("C NUMBER", "the clock in its next segments (1000)"),
    "wait": ("SECONDS", "time passes, at most a minute"),
    "compare": ("ASPECT [ASPECT]", "acks or windows are compared too, which are free otherwise"),
    "free": ("NAME", "this counter is not compared: it depends on the kernel's hash"),
}
NOTES = (
    "L is a listener, C a client, X an accepted connection, S a listener or a connection. A TEXT"
    " is a word, or @NUMBER for so many bytes. All listeners are at one address, with"
    " SO_REUSEPORT. Lines that begin with # are what the story says of itself."
)
_KINDS = {"L": "a listener", "X": "a connection", "C": "a client"}
_LONGEST_S = 60.0
_MOST_BYTES = 1 << 20
_OFFER = re.compile(r"(mss|scale)=[0-9]{1,5}|sack|stamps|cookie(=wrong)?")


def check(story: str) -> None:
    """Raises UsageError, with the number of the line, where a story cannot be told."""
    kinds: dict[str, str] = {}
    for number, line in enumerate(story.splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                _check_line(words, kinds)
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from None


def _check_line(words: list[str], kinds: dict[str, str]) -> None:
    verb, *given = words
    if verb not in SHAPES:
        raise UsageError(f"no story has the verb {verb!r}; segue lab explain --verbs lists them")
    shape = SHAPES[verb][0].split()
    repeats = shape[-1:] == ["...]"]
    if repeats:
        shape = [*shape[:-2], *["[OFFER]"] * max(0, len(given) - len(shape) + 2)]
    least = sum(not one.startswith("[") for one in shape)
    if not least <= len(given) <= len(shape):
        raise UsageError(f"{verb} takes {SHAPES[verb][0] or 'nothing'}, not {' '.join(given)!r}")
    for kind, word in zip(shape, given, strict=False):
        _check_word(verb, kind.strip("[]"), word, kinds)


def _check_word(verb: str, kind: str, word: str, kinds: dict[str, str]) -> None:
    if kind in ("L", "X", "C"):
        if kinds.setdefault(word, kind) != kind:
            raise UsageError(f"{word!r} is {_KINDS[kinds[word]]}, and {verb} needs {_KINDS[kind]}")
    elif kind == "S":
        if kinds.get(word) == "C":
            raise UsageError(f"{word!r} is a client, and {verb} is a call of the server")
    elif kind == "POLICY":
        named(word)
    elif kind in _WORDS:
        is_right, what = _WORDS[kind]
        if not is_right(word):
            raise UsageError(f"{verb}: {word!r} is not {what}")


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,10}", word) is not None


def _is_wait(word: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", word)) and float(word) <= _LONGEST_S


def _is_text(word: str) -> bool:
    if not word.startswith("@"):
        return True
    return _is_number(word[1:]) and 0 < int(word[1:]) <= _MOST_BYTES


_WORDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "NUMBER": (_is_number, "a number"),
    "SECONDS": (_is_wait, f"a number of seconds up to {_LONGEST_S:.0f}"),
    "TEXT": (_is_text, f"a word, or @NUMBER up to {_MOST_BYTES}"),
    "SIDE": (lambda word: word in ("read", "write"), "read or write"),
    "OFFER": (lambda word: bool(_OFFER.fullmatch(word)), "an option that a client can offer"),
    "SYSCTL": (
        lambda word: word in {one.name for one in dataclasses.fields(Sysctls)},
        "a setting that the model has",
    ),
    "OPTION": (
        lambda word: word.startswith(("SO_", "TCP_")) and hasattr(socket, word),
        "an option of socket(7) or tcp(7)",
    ),
    "ASPECT": (lambda word: word in ("acks", "windows"), "acks or windows"),
    "select": (lambda word: word == "select", "select"),
}
