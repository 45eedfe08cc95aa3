"""What a run found: counts by fate, latencies, gaps.  As a value, and as JSON.

Latencies are of answered attempts, in milliseconds, counted from when the attempt was due.
Percentiles are by nearest rank: each is the latency of some real attempt.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from segue.probe.fates import Fate
from segue.visible import visible

# More distinct versions than this are no versions: a body with the time of day in it, say.
VERSIONS = 100
_LONGEST = 200  # characters of an answer


@dataclass(frozen=True, slots=True)
class Event:
    """One attempt: when it ended, seconds after the run began, how long it took, and its fate."""

    at_s: float
    latency_ms: float
    fate: Fate


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    ``began`` is Unix time; ``began_monotonic`` is CLOCK_MONOTONIC, the same for every process of
    this machine.  ``seconds`` is how long the load lasted.  ``gap_ms`` is the longest time
    without an answer.  ``late_ms`` is how late the probe itself began an attempt (99th percentile):
    when it is not small beside the latencies, this machine was too busy.  ``held_back``
    counts attempts that waited because ``max_open`` connections were open already, ``unbegun``
    those that were due and are in no other number, because the run ended before their turn.
    """

    target: str
    load: str
    began: float
    began_monotonic: float
    seconds: float
    counts: dict[Fate, int]
    repeated: int = 0  # requests that were pipelined in vain, not processed, and sent again
    lost_reused: int = 0  # of the lost ones, how many had been sent on a kept connection
    statuses: dict[int, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    # When each was met first and last, seconds after the run began.
    version_times: dict[str, tuple[float, float]] = field(default_factory=dict)
    certificates: dict[str, int] = field(default_factory=dict)
    certificate_times: dict[str, tuple[float, float]] = field(default_factory=dict)
    closes: dict[str, int] = field(default_factory=dict)  # of WebSockets, by code
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    gap_ms: float | None = None
    late_ms: float | None = None
    held_back: int = 0
    unbegun: int = 0
    most_open: int = 0
    examples: dict[Fate, str] = field(default_factory=dict)
    # How the answer of such an example began, if a part of one came; at most 200 characters.
    answers: dict[Fate, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def total(self) -> int:
        """Attempts, whatever became of them."""
        return sum(count for fate, count in self.counts.items() if fate.attempt)

    @property
    def lost(self) -> int:
        """Attempts that got no whole answer, leaving out those this machine could not make."""
        return sum(count for fate, count in self.counts.items() if fate.lost)

    @property
    def rate(self) -> float:
        """Attempts begun per second."""
        return self.total / self.seconds if self.seconds > 0 else 0.0

    def count(self, fate: Fate) -> int:
        """How many met this fate."""
        return self.counts.get(fate, 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON.  Fates go by their names; an event is [seconds, milliseconds, fate]."""
        found = asdict(self)
        found["counts"] = {fate.value: count for fate, count in self.counts.items()}
        for name, texts in (("examples", self.examples), ("answers", self.answers)):
            found[name] = {fate.value: text for fate, text in texts.items()}
        found["events"] = [[one.at_s, one.latency_ms, one.fate.value] for one in self.events]
        return found | {"total": self.total, "lost": self.lost, "rate": self.rate}


def percentile(ascending: Sequence[float], percent: float) -> float | None:
    """The nearest rank: the smallest value that this percent of all do not exceed."""
    if not ascending:
        return None
    return ascending[max(0, ceil(len(ascending) * percent / 100) - 1)]


class Tally:
    """Counts while the run goes on; 21 bytes an attempt, so ten million fit in memory."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.counts: Counter[Fate] = Counter()
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.version_times: dict[str, tuple[float, float]] = {}
        self.certificates: Counter[str] = Counter()
        self.certificate_times: dict[str, tuple[float, float]] = {}
        self.closes: Counter[str] = Counter()
        # Our own addresses of connections that were reset: what the kernel's trace is matched by.
        self.reset_from: list[tuple[str, int]] = []
        self.examples: dict[Fate, str] = {}
        self.answers: dict[Fate, str] = {}
        self.late = array("f")
        self.lost_reused = self.repeated = 0
        self.held_back = self.unbegun = self.most_open = 0
        self.gap_s = 0.0
        self._last_ok = start
        self._at = array("d")
        self._latency = array("d")
        self._fate = bytearray()

    @property
    def begun(self) -> int:
        """Attempts begun so far."""
        return len(self.late) + self.held_back

    def answered(self, due: float, now: float) -> None:
        """An attempt got its whole answer."""
        self.gap_s = max(self.gap_s, now - self._last_ok)
        self._last_ok = now
        self._add(Fate.OK, due, now)

    def failed(self, fate: Fate, due: float, now: float, *, reused: bool, note: str) -> None:
        """An attempt met another fate, or an idle connection was closed; ``note`` is made visible,
        as a server's words may be in it.
        """
        if fate.lost and reused:
            self.lost_reused += 1
        self.examples.setdefault(fate, f"after {now - self.start:.3f} s: {visible(note)}")
        self._add(fate, due, now)

    def heard(self, fate: Fate, answer: bytes) -> None:
        """How the answer began of which the first example of this fate was a part."""
        text = visible(answer.decode(errors="backslashreplace").strip())
        self.answers.setdefault(fate, text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")

    def version(self, name: str, now: float) -> None:
        """An answer named its version; names beyond VERSIONS count together."""
        self._meet(self.versions, self.version_times, name, now)

    def certificate(self, name: str, now: float) -> None:
        """A handshake presented this certificate."""
        self._meet(self.certificates, self.certificate_times, name, now)

    def _meet(
        self, counts: Counter[str], times: dict[str, tuple[float, float]], name: str, now: float
    ) -> None:
        name = visible(name)
        if name not in counts and len(counts) >= VERSIONS:
            name = "others"
        counts[name] += 1
        at = round(now - self.start, 6)
        times[name] = times.get(name, (at, at))[0], at

    def rows(self) -> Iterator[tuple[float, float, Fate]]:
        """Every attempt as (ended, took, fate), in seconds, in the order in which they ended."""
        for at, took, number in zip(self._at, self._latency, self._fate, strict=True):
            yield at, took, _FATES[number]

    def _add(self, fate: Fate, due: float, now: float) -> None:
        self.counts[fate] += 1
        self._at.append(now - self.start)
        self._latency.append(now - due)
        self._fate.append(_NUMBER[fate])

    def events(self) -> Iterator[Event]:
        """Every attempt, in the order in which they ended."""
        for at, took, fate in self.rows():
            yield Event(round(at, 6), round(took * 1e3, 3), fate)

    def result(self, *, target: str, load: str, began: float, until: float, events: bool) -> Result:
        """The finished value; ``until`` is when the load ended (monotonic)."""
        good = _NUMBER[Fate.OK]
        rows = zip(self._latency, self._fate, strict=True)
        latencies = sorted(latency * 1e3 for latency, number in rows if number == good)
        gap = max(self.gap_s, until - self._last_ok)
        return Result(
            target=target,
            load=load,
            began=began,
            began_monotonic=self.start,
            seconds=until - self.start,
            counts=dict(self.counts),
            lost_reused=self.lost_reused,
            repeated=self.repeated,
            statuses=dict(self.statuses),
            versions=dict(self.versions),
            version_times=dict(self.version_times),
            certificates=dict(self.certificates),
            certificate_times=dict(self.certificate_times),
            closes=dict(self.closes),
            p50_ms=percentile(latencies, 50),
            p90_ms=percentile(latencies, 90),
            p99_ms=percentile(latencies, 99),
            max_ms=latencies[-1] if latencies else None,
            gap_ms=gap * 1e3,
            late_ms=percentile(sorted(late * 1e3 for late in self.late), 99),
            held_back=self.held_back,
            unbegun=self.unbegun,
            most_open=self.most_open,
            examples=dict(self.examples),
            answers=dict(self.answers),
            events=tuple(self.events()) if events else (),
        )


_FATES = list(Fate)
_NUMBER = {fate: number for number, fate in enumerate(_FATES)}
