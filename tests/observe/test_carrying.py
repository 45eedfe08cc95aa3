"""Which connections are carried: the rule, refusal by refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.observe import carrying
from segue.observe.answer import Answer, Phase
from segue.observe.carrying import Held, Host, Note, Outside, Refusal, Target
from segue.observe.request_head import Seen

HOST = Host()
TARGET = Target(queue=0, backlog=10, receive_buffer=131_072)
IDLE = Held(
    state=1,
    rcv_nxt=1000,
    snd_nxt=5000,
    snd_una=5000,
    write_seq=5000,
    copied_seq=1000,
    snd_wl1=1000,
    snd_wnd=65_535,
    urg_data=0,
    ts_recent=7,
    mss_clamp=1460,
    snd_wscale=7,
    rcv_wscale=7,
    wscale_ok=1,
    sack_ok=1,
    tstamp_ok=1,
    ecn_flags=0,
    usec=0,
)


NOTE = Note(time_ns=1, written=4000, start=900, end=1000, seen=Seen.LINE)


def judged(held: Held, host: Host = HOST, version: int = 4, note: Note | None = None) -> Any:
    return carrying.refusal(host, held, version, carrying.MOST_UNREAD, note)


@pytest.mark.parametrize(
    ("host", "outside", "targets", "why"),
    [
        (HOST, Outside(), [TARGET], None),
        (Host(syncookies=2), Outside(), [TARGET], None),
        (Host(syncookies=0), Outside(), [TARGET], Refusal.SYNCOOKIES_OFF),
        (Host(tapped=True), Outside(), [TARGET], Refusal.TAPPED),
        (HOST, Outside(connected=False), [TARGET], Refusal.NOT_ESTABLISHED),
        (HOST, Outside(plain=False), [TARGET], Refusal.NOT_TCP),
        (HOST, Outside(), [TARGET, replace(TARGET, plain=False)], Refusal.NOT_TCP),
        (HOST, Outside(), [], Refusal.NO_TARGET),
        (HOST, Outside(bound=True), [TARGET], Refusal.BOUND),
        (HOST, Outside(), [TARGET, replace(TARGET, bound=True)], Refusal.BOUND),
        (HOST, Outside(), [replace(TARGET, queue=10)], None),  # one more than the backlog
        (HOST, Outside(), [TARGET, replace(TARGET, queue=11)], Refusal.TARGET_FULL),
        (HOST, Outside(translated=True), [TARGET], Refusal.TRANSLATED),
    ],
)
def test_what_is_refused_before_anything(
    host: Host, outside: Outside, targets: list[Target], why: Refusal | None
) -> None:
    """Of the host, of what can be read outside, and of the listeners."""
    assert carrying.before(host, outside, targets) is why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"state": 8}, Refusal.NOT_ESTABLISHED),  # CLOSE_WAIT
        ({"state": 12}, Refusal.NOT_ESTABLISHED),
        ({"snd_una": 4999}, Refusal.UNACKNOWLEDGED),
        ({"write_seq": 5001}, Refusal.UNACKNOWLEDGED),  # written, and not sent yet
        ({"snd_wl1": 900}, Refusal.OWED),
        ({"rcv_nxt": 1100, "snd_wl1": 1000}, None),  # unread, behind a whole answer
        ({"rcv_nxt": 1100, "snd_wl1": 900}, Refusal.OWED),
        ({"rcv_nxt": 1000 + 60_001}, Refusal.UNREAD),
        ({"urg_data": 0x100}, Refusal.URGENT),
        ({"usec": 1}, Refusal.MICROSECONDS),
        ({"ecn_flags": 0x09}, None),  # agreed on, and seen
        ({"ecn_flags": 0x10}, Refusal.ACCURATE_ECN),
        ({"mss_clamp": 535}, Refusal.SMALL_MSS),
        ({"mss_clamp": 536}, None),
        # Across the wrap.
        ({"rcv_nxt": 10, "copied_seq": (1 << 32) - 10, "snd_wl1": (1 << 32) - 10}, None),
    ],
)
def test_what_is_refused_once_it_is_held(change: dict[str, int], why: Refusal | None) -> None:
    """Each by what the kernel has of the connection."""
    assert judged(replace(IDLE, **change)) is why


@pytest.mark.parametrize(
    ("setting", "field", "why"),
    [
        ("timestamps", "tstamp_ok", Refusal.TIMESTAMPS_OFF),
        ("sack", "sack_ok", Refusal.SACK_OFF),
        ("window_scaling", "wscale_ok", Refusal.SCALING_OFF),
    ],
)
def test_a_setting_counts_where_the_connection_has_the_option(
    setting: str, field: str, why: Refusal
) -> None:
    """Turned off later, it takes the option from nobody else."""
    host = replace(Host(), **{setting: False})
    assert judged(IDLE, host) is why
    assert judged(replace(IDLE, **{field: 0}), host) is None


def test_ipv6_has_a_larger_least_segment() -> None:
    """1220 bytes, of which IPv4 knows nothing."""
    assert judged(replace(IDLE, mss_clamp=1219), version=6) is Refusal.SMALL_MSS
    assert judged(replace(IDLE, mss_clamp=1220), version=6) is None


@pytest.mark.parametrize(
    ("change", "note", "why"),
    [
        ({}, NOTE, None),
        ({}, replace(NOTE, written=5000), Refusal.OWED),
        # A window update: without a note it would look answered.
        ({"snd_wl1": 1000}, replace(NOTE, written=5000), Refusal.OWED),
        # Noted is better than what the last segment says.
        ({"snd_wl1": 900}, NOTE, None),
        ({}, replace(NOTE, seen=Seen.LINE | Seen.EARLY), Refusal.EARLY),
        # A part of a second request is with its owner, or of the first is yet to come.
        ({}, replace(NOTE, end=990), Refusal.NOT_ONE),
        ({}, replace(NOTE, end=1010), Refusal.NOT_ONE),
        ({}, replace(NOTE, end=0, seen=Seen.LINE | Seen.CHUNKED), None),
        ({}, replace(NOTE, end=0, seen=Seen.UNFINISHED), None),
        # Unread from the beginning of the last request on, in as many segments as it took.
        ({"rcv_nxt": 3000, "snd_wl1": 2000}, replace(NOTE, written=5000, start=1000), None),
        ({"rcv_nxt": 3000}, replace(NOTE, written=5000, start=900), Refusal.OWED),
    ],
)
def test_what_is_owed_by_a_note(change: dict[str, int], note: Note, why: Refusal | None) -> None:
    """Something was written since, or nothing of the request was read."""
    assert judged(replace(IDLE, **change), note=note) is why


@pytest.mark.parametrize(
    ("payload", "unread", "why"),
    [
        (b"", 0, None),
        (b"GET / HTTP/1.1\r\n\r\n", 18, None),
        (b"POST", 4, None),
        (b"ET / HTTP/1.1\r\n\r\n", 17, Refusal.NO_REQUEST_LINE),
        (b"GET ", 8, Refusal.URGENT),  # an urgent mark ends what can be peeked
    ],
)
def test_what_is_unread_begins_a_request(payload: bytes, unread: int, why: Refusal | None) -> None:
    """All of it goes along, or nothing."""
    assert carrying.with_unread(payload, unread) is why


READ = replace(IDLE, bytes_received=100)


@pytest.mark.parametrize(
    ("held", "note", "quiet", "why"),
    [
        (READ, NOTE, 1.0, None),
        (READ, NOTE, 0.1, Refusal.RECENT),
        (READ, None, 1.0, Refusal.NO_NOTES),
        (IDLE, None, 1.0, None),  # nothing has been asked
        (IDLE, None, 0.1, Refusal.RECENT),
        (READ, replace(NOTE, seen=Seen(0)), 1.0, Refusal.NO_REQUEST_LINE),
        (READ, replace(NOTE, seen=Seen.PREFACE), 1.0, Refusal.HTTP2),
        (READ, replace(NOTE, seen=Seen.LINE | Seen.UPGRADE), 1.0, Refusal.UPGRADED),
        (READ, replace(NOTE, seen=Seen.LINE | Seen.STREAM), 1.0, Refusal.STREAM),
        (READ, replace(NOTE, seen=Seen.LINE | Seen.EXPECT), 1.0, Refusal.EXPECTED),
        (READ, replace(NOTE, seen=Seen.LINE | Seen.CHUNKED), 1.0, Refusal.CHUNKED),
        (READ, replace(NOTE, seen=Seen.LINE | Seen.UNFINISHED), 1.0, Refusal.LONG_HEAD),
        # Nobody works on what nobody has read, but on the answer before it perhaps.
        (replace(READ, rcv_nxt=1100, bytes_received=200), NOTE, 0.1, Refusal.RECENT),
        (replace(READ, rcv_nxt=1100), NOTE, 0.1, None),
        (replace(READ, rcv_nxt=1100), NOTE, 1.0, None),
    ],
)
def test_the_rule_for_http(
    held: Held, note: Note | None, quiet: float, why: Refusal | None
) -> None:
    """What cannot be told is left alone."""
    assert carrying.by_notes(held, note, quiet, 0.5) is why


WHOLE = Answer(Phase.WHOLE, to=900, at=5000)
FOLLOWED = replace(NOTE, answer=WHOLE)
PART = Answer(Phase.CHUNK, to=900, at=5000)
NEXT = replace(READ, rcv_nxt=1100, bytes_received=200)  # its next request waits
ITS = replace(NOTE, start=1000, written=5000)


@pytest.mark.parametrize(
    ("held", "note", "quiet", "why"),
    [
        # Known to be whole: no time has to pass, whatever was asked for.
        (READ, FOLLOWED, 0.0, None),
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.UPGRADE), 0.0, None),
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.STREAM), 0.0, None),
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.EXPECT), 0.0, None),
        # Where the request ends is not known all the same.
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.CHUNKED), 9.0, Refusal.CHUNKED),
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.UNFINISHED), 9.0, Refusal.LONG_HEAD),
        (READ, replace(FOLLOWED, seen=Seen(0)), 9.0, Refusal.NO_REQUEST_LINE),
        # Its owner may be about to close it.
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.LAST), 0.1, Refusal.RECENT),
        (READ, replace(FOLLOWED, seen=Seen.LINE | Seen.LAST), 0.6, None),
        (READ, replace(NOTE, answer=replace(WHOLE, closes=True)), 9.0, Refusal.CLOSING),
        # Known not to be whole: no time is enough.
        (READ, replace(NOTE, answer=PART), 99.0, Refusal.PART),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.LENGTH)), 99.0, Refusal.PART),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.HEAD)), 99.0, Refusal.HINTED),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.UNTIL_CLOSE)), 99.0,
         Refusal.UNTIL_CLOSE),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.TUNNEL)), 99.0, Refusal.UPGRADED),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.MORE)), 99.0, Refusal.UNASKED),
        (READ, replace(NOTE, answer=PART, seen=Seen.LINE | Seen.STREAM), 99.0, Refusal.STREAM),
        # Not known: not followed, not to its last byte, or of a request before.
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.UNKNOWN)), 0.1, Refusal.RECENT),
        (READ, replace(NOTE, answer=replace(PART, phase=Phase.UNKNOWN)), 0.6, None),
        (READ, replace(NOTE, answer=replace(WHOLE, at=4990)), 0.1, Refusal.RECENT),
        (READ, replace(NOTE, answer=replace(WHOLE, to=800)), 0.1, Refusal.RECENT),
        (READ, replace(NOTE, answer=replace(PART, to=800)), 0.6, None),
        # The next request waits, behind an answer of which it is known how far it is.
        (NEXT, replace(ITS, answer=WHOLE), 0.0, None),
        (NEXT, replace(ITS, answer=WHOLE, seen=Seen.UNFINISHED), 0.0, None),
        (NEXT, replace(ITS, answer=PART), 9.0, Refusal.PART),
        (NEXT, replace(ITS, answer=replace(WHOLE, closes=True)), 9.0, Refusal.CLOSING),
    ],
)  # fmt: skip
def test_the_rule_for_http_by_the_answer(
    held: Held, note: Note, quiet: float, why: Refusal | None
) -> None:
    """How far it is decides, where every byte of it was seen."""
    assert carrying.by_notes(held, note, quiet, 0.5) is why


@pytest.mark.parametrize(
    ("phase", "why"),
    [
        (Phase.HEAD, Refusal.HINTED),
        (Phase.LENGTH, Refusal.PART),
        (Phase.UNTIL_CLOSE, Refusal.UNTIL_CLOSE),
        (Phase.WHOLE, Refusal.NOT_ONE),
        (Phase.UNKNOWN, Refusal.NOT_ONE),
    ],
)
def test_an_answer_that_began_before_the_end_of_its_request(phase: Phase, why: Refusal) -> None:
    """Its client sends the rest of its body after a 100, or while it is answered."""
    note = replace(NOTE, end=1010, answer=Answer(phase, to=900, at=5000))
    assert judged(IDLE, note=note) is why
    assert judged(IDLE, note=replace(note, answer=replace(note.answer, at=4990))) is Refusal.NOT_ONE


@pytest.mark.parametrize(
    ("buffers", "most"), [([131_072], 60_000), ([131_072, 8192], 4096), ([1 << 20], 60_000)]
)
def test_how_much_unread_data_finds_room(buffers: list[int], most: int) -> None:
    """In the first window of whichever listener takes it."""
    targets = [replace(TARGET, receive_buffer=one) for one in buffers]
    assert carrying.room(targets) == most


@given(st.builds(dict, **{name: st.integers(0, 3000) for name in (
    "state", "rcv_nxt", "snd_nxt", "snd_una", "write_seq", "copied_seq", "snd_wl1"
)}))  # fmt: skip
def test_nothing_is_carried_that_is_not_idle(values: dict[str, int]) -> None:
    """Established, all acknowledged, and the last segment acknowledged what was answered."""
    held = replace(IDLE, **values)
    if judged(held) is None:
        assert held.state == carrying.ESTABLISHED
        assert held.snd_una == held.snd_nxt == held.write_seq
        assert held.snd_wl1 == held.copied_seq
        assert held.unread <= carrying.MOST_UNREAD


def test_each_refusal_says_something_else() -> None:
    """A reason is counted by its sentence."""
    assert len({one.value for one in Refusal}) == len(Refusal)
