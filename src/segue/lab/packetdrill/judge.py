"""A script is told to a side, and the first thing that is not as the script says is reported.

As in packetdrill, an event happens at its time, and what the side sends is compared with the next
event that expects it.  Times may be off by the tolerance.  One after the other, segments of data
may stand for one that is as long as all of them.  Which of several has PSH is free.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from segue.errors import UsageError
from segue.lab.packetdrill import asserts, calls, commands, constants
from segue.lab.packetdrill.script import (
    Call,
    Clock,
    Code,
    Command,
    Event,
    Icmp,
    Option,
    Script,
    Segment,
    When,
)
from segue.lab.packetdrill.side import Side
from segue.lab.packetdrill.speaker import Heard, Speaker, joined
from segue.wire import icmp
from segue.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG

TOLERANCE_S = 0.014  # what Linux's own runner of these scripts allows, on machines with other work
_PATIENCE_S = 1.0  # beyond the time at which something is due; then it does not come
_AT_ANY_TIME_S = 10.0  # and for what has no time


class Verdict(Enum):
    """What became of a script on a side."""

    PASSED = auto()
    DIFFERENT = auto()  # the side does something else
    REFUSED = auto()  # the side does not do what the script asks for


@dataclass(frozen=True, slots=True)
class Result:
    """``at`` is the index of the event at which it ended, and ``why`` says what was otherwise."""

    verdict: Verdict
    at: int | None = None
    why: str = ""

    @property
    def passed(self) -> bool:
        """All was as the script says."""
        return self.verdict is Verdict.PASSED


class _DifferentError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings at the head of a script say of how it is judged."""

    tolerance_s: float
    stamp_tick_s: float | None = None
    strict_segments: bool = False


class Judge:
    """One script, one side."""

    def __init__(self, script: Script, side: Side, speaker: Speaker, rules: Rules) -> None:
        self._script, self._side, self._speaker, self._rules = script, side, speaker, rules
        self._heard: deque[Heard] = deque()
        self._waiting: tuple[int, Event, Call, float] | None = None
        self._previous = self._late = 0.0
        self._anchored = True

    def run(self) -> Result:
        """Tell it."""
        at = 0
        try:
            for at, event in enumerate(self._script.events):
                self._event(at, event)
            if self._waiting is not None:
                at = self._waiting[0]
                self._finish_call()
        except _DifferentError as error:
            return Result(Verdict.DIFFERENT, at, str(error))
        except UsageError as error:
            return Result(Verdict.REFUSED, at, str(error))
        return Result(Verdict.PASSED)

    def _event(self, at: int, event: Event) -> None:
        when = event.when
        if when.clock is Clock.START:
            base = self._late
        elif self._anchored and when.clock is Clock.PREVIOUS:
            base = self._previous
        else:
            base = self._side.now()
        start = base + when.at
        action = event.action
        if isinstance(action, Segment) and action.outbound:
            self._expect(action, when, start, base)
        else:
            self._side.pass_until(start)
            # Where we are late, all that follows is as late, and none of it is the side's doing.
            late = self._side.now() - start
            self._late += late
            start += late
            self._act(at, event, start, base + late)
        self._previous = start
        self._anchored = when.clock is not Clock.ANY and when.until is None

    def _act(self, at: int, event: Event, start: float, base: float) -> None:
        match event.action:
            case Segment() as segment:
                try:
                    packet = self._speaker.says(segment)
                except KeyError as error:
                    raise UsageError(
                        f"no stamp {error.args[0]} was sent that it could echo"
                    ) from None
                self._side.packet(packet)
            case Icmp() as message:
                self._side.packet(self._complaint(message))
            case Command(text):
                for name, value in commands.settings_in(text):
                    self._side.set(name, value)
            case Code(text):
                self._judge_code(text)
            case Call() as call:
                self._call(at, event, call, start, base)

    # Calls.

    def _call(self, at: int, event: Event, call: Call, start: float, base: float) -> None:
        if self._waiting is not None:
            self._finish_call()
        asked = calls.ask(call)
        self._side.begin(asked)
        if asked.verb == "listen":
            self._speaker.listens()
        if call.until is not None:
            end = call.until + base - self._late
            self._waiting = (at, event, call, end)
            return
        self._compare_outcome(call, None, start)

    def _finish_call(self) -> None:
        assert self._waiting is not None
        _, event, call, end = self._waiting
        self._waiting = None
        end += self._late
        try:
            self._compare_outcome(call, end, end)
        except _DifferentError as error:
            raise _DifferentError(f"{event.text}: {error}") from None

    def _compare_outcome(self, call: Call, end: float | None, due: float) -> None:
        outcome = self._side.outcome(max(due, self._side.now()) + _PATIENCE_S)
        if outcome is None:
            raise _DifferentError("the call waits")
        asked = calls.ask(call)
        wrong = call.result is not None and outcome.value != call.result
        wrong = wrong or (call.error is not None and call.error != outcome.error)
        if wrong:
            raise _DifferentError(f"the call gave {outcome}")
        if asked.told is not None and outcome.value >= 0 and asked.told != outcome.told:
            raise _DifferentError(f"the call told {outcome.told or 'nothing'}, not {asked.told}")
        if end is not None and abs(outcome.at - end) > self._rules.tolerance_s:
            raise _DifferentError(f"the call returned at {outcome.at:.3f} s, not {end:.3f} s")

    def _judge_code(self, text: str) -> None:
        asked = asserts.names_in(text) - constants.OF_TCP_INFO.keys()
        told = self._side.tcp_info() if asked else {}
        values = {name.removeprefix("tcpi_"): name for name in asked}
        missing = [name for short, name in values.items() if short not in told]
        if missing:
            raise UsageError(f"this side does not tell {', '.join(sorted(missing))}")
        known = {name: told[short] for short, name in values.items()}
        failed = asserts.first_failure(text, {**constants.OF_TCP_INFO, **known})
        if failed is not None:
            raise _DifferentError(f"it does not hold that {failed}")

    # Packets.

    def _complaint(self, message: Icmp) -> bytes:
        kinds = _ICMP6 if self._speaker.is_ipv6 else _ICMP
        key = f"{message.kind} {message.code}".strip()
        if key not in kinds:
            raise UsageError(f"the lab sends no ICMP message {key!r}")
        kind, code = kinds[key]
        return self._speaker.complains(kind, code, message.mtu or 0, message.seq or 0, message.size)

    def _next(self, until: float) -> Heard | None:
        if self._heard:
            return self._heard.popleft()
        while (found := self._side.next_packet(until)) is not None:
            heard = self._speaker.hears(found)
            if heard is not None:
                return heard
        return None

    def _expect(self, expected: Segment, when: When, start: float, base: float) -> None:
        end = start if when.until is None else base + when.until
        patience = _PATIENCE_S if when.clock is not Clock.ANY else _AT_ANY_TIME_S
        until = max(end, self._side.now()) + patience
        found = self._next(until)
        if found is None:
            raise _DifferentError("nothing was sent")
        found = self._speaker.scripted(found, expected)
        first = found
        while found.size < expected.size and not self._rules.strict_segments:
            more = self._next(until)
            if more is None:
                break
            whole = joined(found, self._speaker.scripted(more, expected))
            if whole is None:
                self._heard.appendleft(more)
                break
            found = whole
        self._compare(expected, found)
        self._compare_time(when, first, found, start, end)

    def _compare(self, expected: Segment, found: Heard) -> None:
        free = 0 if found.whole else PSH
        seen = SYN | FIN | RST | ACK | URG | ECE | CWR | PSH
        alike = (
            (expected.flags ^ found.flags) & seen & ~free == 0
            and expected.seq == found.seq
            and expected.size == found.size
            and (not expected.flags & ACK or expected.ack == found.ack)
            and expected.window in {None, found.window}
            and expected.ecn in {None, found.ecn}
        )
        if not alike or not self._options_alike(expected, found):
            raise _DifferentError(f"it sent {found}")

    def _options_alike(self, expected: Segment, found: Heard) -> bool:
        if expected.options is None:
            return True
        ours, theirs = expected.options, found.options
        if len(ours) != len(theirs):
            return False
        return all(self._alike(one, other) for one, other in zip(ours, theirs, strict=True))

    def _alike(self, one: Option, other: Option) -> bool:
        if one.name != "TS" or other.name != "TS" or len(other.numbers) != 2:
            return one == other
        (value, echo), (said, echoed) = one.numbers, other.numbers
        if echo != echoed:
            return False
        tick = self._rules.stamp_tick_s
        return tick is None or abs(value - said) * tick <= self._rules.tolerance_s

    def _compare_time(
        self, when: When, first: Heard, last: Heard, start: float, end: float
    ) -> None:
        if when.clock is Clock.ANY:
            return
        early = first.at < start - self._rules.tolerance_s
        if early or last.since > end + self._rules.tolerance_s:
            at = first.at if early else last.since
            due = f"{start:.3f} s" if start == end else f"{start:.3f} s to {end:.3f} s"
            raise _DifferentError(f"it was sent at {at:.3f} s, not at {due}")


_UNREACHABLE = (
    "net_unreachable", "host_unreachable", "protocol_unreachable", "port_unreachable",
    "frag_needed", "source_route_failed", "net_unknown", "host_unknown", "source_host_isolated",
    "net_prohibited", "host_prohibited", "net_unreachable_for_tos", "host_unreachable_for_tos",
    "comm_prohibited", "host_precedence", "precedence_cutoff",
)  # fmt: skip
_UNREACHABLE6 = (
    "no_route", "admin_prohibited", "beyond_scope", "address_unreachable", "port_unreachable",
)  # fmt: skip
_ICMP = {
    f"unreachable {name}": (icmp.UNREACHABLE[4], code) for code, name in enumerate(_UNREACHABLE)
}
_ICMP6 = {
    "packet_too_big": (icmp.TOO_BIG, 0),
    **{
        f"unreachable {name}": (icmp.UNREACHABLE[6], code)
        for code, name in enumerate(_UNREACHABLE6)
    },
}
