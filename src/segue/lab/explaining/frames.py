"""A story as frames: what stands where after each instant, and what has moved to get there.

A frame is made of names and words alone, so that whoever shows it needs to know neither the model
nor the story.  One is made for each step of the story, and one for each timer that fires later in
that step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from segue.engine.carry_wish import CARRIED
from segue.lab.explaining import words
from segue.lab.explaining.stands import KEPT, LISTENS, STOPPED, ClientStands, ListenerStands
from segue.lab.replay import SEGMENTS, Step, counted, speakers, steps
from segue.lab.sides import BEGINNING, Instant, ModelSide, Side
from segue.lab.stories import free_in
from segue.model.client import Heard
from segue.model.events import CookieSent, Moved, Refused
from segue.model.picture import FlowPicture, ListenerPicture, Section
from segue.model.profile import Profile
from segue.model.states import State
from segue.model.timing import EXACT, Timing


@dataclass(frozen=True, slots=True)
class Arrow:
    """A segment between a client and a listener, "" where none has to do with it."""

    client: str
    listener: str
    label: str
    detail: str
    to_listener: bool


@dataclass(frozen=True, slots=True)
class Move:
    """``target`` is "" for what is lost; ``rows`` are patches of the series, and differences from
    them (docs/SERIES.md): none for what is carried.
    """

    client: str
    state: str
    source: str
    target: str
    sentence: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One instant.  ``said`` is the step as the story has it, also for its later instants.

    In the order in which they come: what arrives, ``notes``, ``moves``, what is sent, ``after``.
    """

    at: float
    step: int
    said: str
    is_later: bool
    arrows: tuple[Arrow, ...]
    moves: tuple[Move, ...]
    notes: tuple[str, ...]
    after: tuple[str, ...]
    answers: tuple[str, ...]
    counted: tuple[tuple[str, int], ...]
    listeners: tuple[ListenerStands, ...]
    clients: tuple[ClientStands, ...]

    @property
    def is_quiet(self) -> bool:
        """Nothing is to be seen but that time passes."""
        said = (self.arrows, self.moves, self.notes, self.after, self.answers, self.counted)
        return not any(said)


@dataclass(frozen=True, slots=True)
class Told:
    """A step as one side told it: what was heard and answered, and what was counted in it."""

    said: str
    lines: tuple[str, ...]
    counted: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Film:
    """All frames of a story.  ``other`` names what it was compared with, and ``differences`` has
    the steps that were told otherwise there, as both told them; ``why_not`` says why there was no
    comparison.
    """

    title: str
    prose: str
    profile: Profile
    listeners: tuple[str, ...]
    clients: tuple[str, ...]
    frames: tuple[Frame, ...]
    other: str = ""
    why_not: str = ""
    differences: tuple[tuple[int, Told, Told], ...] = ()

    @property
    def differing(self) -> dict[int, tuple[Told, Told]]:
        """By step: what the other told, and what the model did."""
        return {step: (theirs, ours) for step, theirs, ours in self.differences}


@dataclass(frozen=True, slots=True)
class Other:
    """The side that has told the story before, and what it told of each step.

    ``took`` are the seconds of its steps, ``began`` is what its clock said at first, and
    ``timings`` are when its timers may have fired, the likeliest first.
    """

    name: str
    told: tuple[Told, ...]
    took: tuple[float, ...] = ()
    began: float = BEGINNING
    timings: tuple[Timing, ...] = (EXACT,)


def told(story: str, side: Side) -> Iterator[tuple[Step, Told]]:
    """Replay a story, and write down each step with what was counted in it."""
    before: dict[str, int] = {}
    for step in steps(story, side):
        now = counted(story, side)
        yield step, Told(step.said, tuple(step.lines[1:]), _grown(before, now))
        before = now


def _grown(before: dict[str, int], now: dict[str, int]) -> tuple[tuple[str, int], ...]:
    known = {name: number - before.get(name, 0) for name, number in now.items()}
    return tuple((name, number) for name, number in known.items() if number)


def film(
    title: str,
    story: str,
    prose: str,
    profile: Profile,
    other: Other | None = None,
    why_not: str = "",
) -> Film:
    """Let the model live a story, and compare it with what the ``other`` side told of it.

    By the first of the other's timings by which both tell the same, or by the likeliest.  Raises
    UsageError for what no story can say.
    """
    names = speakers(story)
    if other is None:
        frames, _ = _lived(story, names, profile)
        differences: tuple[tuple[int, Told, Told], ...] = ()
    else:
        frames, differences = _alike(story, names, profile, other)
    return Film(
        title,
        prose,
        profile,
        tuple(frames.listeners),
        tuple(names),
        tuple(frames.made),
        "" if other is None else other.name,
        why_not,
        differences,
    )


def _alike(
    story: str, names: dict[str, int], profile: Profile, other: Other
) -> tuple[_Frames, tuple[tuple[int, Told, Told], ...]]:
    found = []
    for timing in other.timings:
        frames, ours = _lived(story, names, profile, other.took, timing, other.began)
        pairs = enumerate(zip(other.told, ours, strict=True))
        found.append((frames, tuple((at, one, two) for at, (one, two) in pairs if one != two)))
        if not found[-1][1]:
            return found[-1]
    return found[0]


def _lived(
    story: str,
    names: dict[str, int],
    profile: Profile,
    took: Iterable[float] = (),
    timing: Timing = EXACT,
    begins: float = BEGINNING,
) -> tuple[_Frames, list[Told]]:
    """By the model: its frames, and what it tells."""
    instants: list[Instant] = []
    side = ModelSide(profile, took, instants.append, timing, begins)
    frames, all_told = _Frames(names, free_in(story)), []
    for number, (step, ours) in enumerate(told(story, side)):
        all_told.append(ours)
        frames.add(number, step, instants)
        instants.clear()
    return frames, all_told


class _Frames:
    """Those that are made, and what must be remembered from one to the next."""

    def __init__(self, names: dict[str, int], free: set[str]) -> None:
        self.made: list[Frame] = []
        self.listeners: dict[str, ListenerStands] = {}
        self._by_port = {port: name for name, port in names.items()}
        self._names = tuple(names)
        self._free = free
        self._clients: dict[int, str] = {}  # by cookie
        self._cookies: dict[int, str] = {}  # of listeners
        self._owners: dict[int, str] = {}  # the listener from which a connection was accepted
        self._counts: dict[str, int] = {}
        self._where: dict[str, str] = {}  # the lane at which a client's segments arrive

    def add(self, number: int, step: Step, instants: list[Instant]) -> None:
        """One frame for each instant of the step."""
        heard = iter(step.heard)
        for order, instant in enumerate(instants):
            mine = [one for _, one in zip(range(instant.sent), heard, strict=False)]
            self._add(number, step, instant, mine, is_later=order > 0)

    def _add(
        self, number: int, step: Step, instant: Instant, heard: list[tuple[str, Heard]],
        *, is_later: bool,
    ) -> None:  # fmt: skip
        self._learn(instant)
        before, self._where = self._where, self._lanes(step, instant)
        stands = {name: self._stands(name, one) for name, one in instant.listeners.items()}
        notes = [words.of_event(event, self._name, stands) for event in instant.events]
        after = [] if is_later else [*self._changes(stands), *self._accepts(step, instant)]
        counts = {name: n for name, n in instant.counts.items() if name not in self._free}
        frame = Frame(
            at=instant.at,
            step=number,
            said=step.said,
            is_later=is_later,
            arrows=(
                *(() if is_later else self._arrives(step, instant, before)),
                *(self._sent(name, one, instant, before) for name, one in heard),
            ),
            moves=(
                *(self._move(one) for one in instant.events if isinstance(one, Moved)),
                *(() if is_later else self._carries(step, instant, before)),
            ),
            notes=tuple(one for one in notes if one),
            after=tuple(one for one in after if one),
            answers=() if is_later else step.answers,
            counted=_grown(self._counts, counts),
            listeners=tuple(stands.values()),
            clients=tuple(self._client(name, instant) for name in self._names),
        )
        self._counts = counts
        self.listeners = stands
        if not (is_later and frame.is_quiet):
            self.made.append(frame)

    def _learn(self, instant: Instant) -> None:
        self._cookies |= {one.cookie: name for name, one in instant.listeners.items()}
        self._clients |= {one.cookie: self._by_port[one.remote_port] for one in instant.flows}

    def _name(self, cookie: int) -> str:
        return self._cookies.get(cookie) or self._clients.get(cookie, "?")

    def _lanes(self, step: Step, instant: Instant) -> dict[str, str]:
        """Where each client's segments arrive: at a listener, or at what was accepted from it."""
        verb, *rest = step.said.split()
        if verb == "accept" and rest[1] in instant.accepted:
            self._owners.setdefault(instant.accepted[rest[1]], rest[0])
        found = {}
        for flow in instant.flows:
            lane = "" if flow.listener is None else self._cookies.get(flow.listener, "")
            lane = lane or self._owners.get(flow.cookie, "")
            found[self._by_port[flow.remote_port]] = lane
        return found

    def _stands(self, name: str, one: ListenerPicture) -> ListenerStands:
        if one.state is State.LISTEN:
            state = LISTENS
        elif one.section is Section.CLOSED:
            state = KEPT
        else:
            state = STOPPED
        return ListenerStands(
            name,
            state,
            tuple(self._name(cookie) for cookie in one.queue),
            one.backlog + 1,
            tuple(self._name(cookie) for cookie in one.half_open),
            one.counted,
            (one.slots_used, one.slots) if one.slots else None,
        )

    def _client(self, name: str, instant: Instant) -> ClientStands:
        for flow in instant.flows:
            if self._by_port[flow.remote_port] == name:
                where, owner = self._place(flow, instant), self._owners.get(flow.cookie, "")
                return ClientStands(name, flow.state.name, where, owner)
        queued = [
            (lane, listener)
            for lane, listener in instant.listeners.items()
            for cookie in listener.queue
            if self._clients.get(cookie) == name
        ]
        # A child stays in its queue though its connection is over (FACTS, gone).
        return ClientStands(name, State.CLOSE.name, queued[0][0]) if queued else ClientStands(name)

    def _place(self, flow: FlowPicture, instant: Instant) -> str:
        for name, cookie in instant.accepted.items():
            if cookie == flow.cookie:
                return name
        return "" if flow.listener is None else self._cookies.get(flow.listener, "")

    def _accepts(self, step: Step, instant: Instant) -> Iterator[str]:
        verb, *rest = step.said.split()
        if verb == "accept" and not step.answers:
            yield f"{rest[1]} is the connection of {self._name(instant.accepted[rest[1]])}"

    def _carries(self, step: Step, instant: Instant, before: dict[str, str]) -> Iterator[Move]:
        """What left the program that had accepted it, unless it was left alone."""
        verb, *rest = step.said.split()
        if verb != "carry" or rest[0] not in instant.accepted:
            return
        client = self._name(instant.accepted[rest[0]])
        source, target = before.get(client, ""), self._where.get(client, "")
        done = any(one.startswith(CARRIED) for one in step.answers)
        if done and source and target not in ("", source):
            sentence = words.of_carry(client, rest[0], target)
            yield Move(client, State.ESTABLISHED.name, source, target, sentence, ())

    def _changes(self, stands: dict[str, ListenerStands]) -> list[str]:
        """What became of listeners."""
        found = []
        for name, now in stands.items():
            before = self.listeners.get(name)
            if before is not None and before.state != now.state:
                found.append(words.of_change(before.state, now.state, name, now.half_open))
        return found

    def _arrives(self, step: Step, instant: Instant, before: dict[str, str]) -> Iterator[Arrow]:
        verb, *rest = step.said.split()
        if verb not in SEGMENTS:
            return
        lane = before.get(rest[0]) or ""
        for event in instant.events:
            # Where it came to is said by whom it was not taken, or who had it until now.
            if isinstance(event, Refused | CookieSent) and not lane:
                lane = self._cookies.get(event.listener, "")
        lane = lane or self._where.get(rest[0], "")
        label = words.of_arrival(verb, rest[1:])
        yield Arrow(rest[0], lane, label, label, to_listener=True)

    def _sent(self, name: str, heard: Heard, instant: Instant, before: dict[str, str]) -> Arrow:
        lane = self._where.get(name) or ""
        for event in instant.events:
            if isinstance(event, CookieSent) and not lane:
                lane = self._cookies.get(event.listener, "")
        lane = lane or before.get(name, "")
        return Arrow(name, lane, words.of_heard(heard), str(heard), to_listener=False)

    def _move(self, event: Moved) -> Move:
        source = self._name(event.source)
        target = "" if event.target is None else self._name(event.target)
        client = self._name(event.cookie)
        return Move(
            client,
            event.state.name,
            source,
            target,
            words.of_move(event, client, source, target),
            words.rows_of(event),
        )
