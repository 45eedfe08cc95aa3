"""What workers print, on its way to the log: a bounded piece of it in each round of the loop.

Workers take turns.  One that prints more than its allowance is not passed on for a moment: its
lines are dropped and counted, and the count is said.  Its pipe is emptied meanwhile, so that it
is not stopped by its own words; it is held up only far beyond that.
"""

from __future__ import annotations

import select
from dataclasses import dataclass, field

from segue.supervisor.allowance import Allowance
from segue.supervisor.control.log import Log
from segue.supervisor.loop import Loop, Rank
from segue.supervisor.workers.pipe import Pipe

# Of one worker: thirty times what journald takes of a service (RateLimitBurst=10000 in 30 s), and
# what can be passed on in a tenth of a core as JSON.
RATE = 10_000.0  # lines a second
BURST = 50_000.0  # lines at once, such as a dump of everything that it knows
_LINE_BYTES = 256  # a longer line counts for several
PAUSE = 1.0  # seconds without a word, so that the log has stretches, with a count between them
# Lines in one round: 512 take under a millisecond as text, and a few as JSON.
TURN = 128  # of one worker
ROUND = 512  # of all
_SKIPS = 8  # pipes of paused workers that are emptied, which takes half a millisecond each
_SKIP_AGAIN = 0.02
_HELD_AGAIN = 0.01  # a log that is not read is tried again after so long


@dataclass(slots=True)
class _Account:
    """One pipe, and what has become of what came out of it."""

    pipe: Pipe
    allowance: Allowance
    left_out: int = 0  # ever
    unsaid: int = 0  # of these
    paused_until: float = 0.0
    ended: bool = False  # the pipe is ours to close when it is empty
    hung_up: bool = False  # no process can print into it any more


@dataclass(slots=True)
class Flow:
    """All pipes of one instance, but for what belongs to each: its process closes it, or ``end``.

    The loop watches it for as long as there is a use in being woken.
    """

    log: Log
    loop: Loop
    _ready: select.epoll = field(default_factory=select.epoll)
    _accounts: dict[int, _Account] = field(default_factory=dict)
    # Pipes in the order of their turns; who had a turn stands at the end.
    _turns: dict[int, None] = field(default_factory=dict)
    _paused: dict[int, None] = field(default_factory=dict)
    _skip_at: float = 0.0
    _held: bool = False
    _watched: bool = False

    def add(self, pipe: Pipe) -> None:
        """Pass on what comes out of this one.  Raises OSError when it cannot be waited for."""
        self._attend()
        self._ready.register(pipe.reader, select.EPOLLIN)
        allowance = Allowance.full(RATE, BURST, self.loop.now())
        self._accounts[pipe.reader] = _Account(pipe, allowance)

    def end(self, pipe: Pipe) -> str:
        """Its worker has ended: the rest is passed on before the pipe is closed, here.

        Its last twenty lines are, whatever was left out before; the last of them is returned.
        """
        number = pipe.reader
        one = self._accounts[number]
        one.ended = True
        if number in self._paused:
            self._paused.pop(number, None)
            pipe.take_rest()
            self._leave_out(one, pipe.keep_last())
            self._say(one)
        else:
            if not one.hung_up:
                self._ready.unregister(number)
            pipe.take_rest()
        self._turns.pop(number, None)
        words = pipe.last_words
        # Before what is said of its end, unless that is much.
        if not self._held:
            self._pass_on(one)
        if not self._closed(one):
            self._turns.setdefault(number)
        return words

    @property
    def due(self) -> float | None:
        """When the next round is, if nobody prints; None for never."""
        if self._held:
            return self.loop.now() + _HELD_AGAIN
        if self._turns:
            return self.loop.now()
        return self._skip_at if self._paused else None

    @property
    def ending(self) -> bool:
        """Something of a worker that has ended is still to be passed on."""
        return any(one.ended for one in self._accounts.values())

    def left_out(self, pipe: Pipe | None) -> int:
        """How many lines of this worker were dropped since it printed too much."""
        one = None if pipe is None else self._accounts.get(pipe.reader)
        return one.left_out if one else 0

    def round(self) -> int:
        """One bounded piece of the work; how much was passed on, in lines of usual length."""
        self._held = not self.log.flush()
        done = 0
        if not self._held:
            for number, events in self._ready.poll(0):
                if not events & select.EPOLLIN:
                    # It has closed its output, and all that it has printed is read.  The end of a
                    # pipe would be reported for ever.
                    self._ready.unregister(number)
                    self._accounts[number].hung_up = True
                    continue
                self._turns.setdefault(number)
            for _ in range(len(self._turns)):
                if done >= ROUND or self._held:
                    break
                one = self._accounts[_first(self._turns)]
                done += self._pass_on(one)
                if not self._closed(one) and one.pipe.whole and one.pipe.reader not in self._paused:
                    self._turns.setdefault(one.pipe.reader)
        if self._paused and self.loop.now() >= self._skip_at:
            self._empty()
        self._attend()
        return done

    def _pass_on(self, one: _Account) -> int:
        lines = one.pipe.lines(TURN)
        self.log.pass_on(one.pipe.label, one.pipe.fields, lines)
        now = self.loop.now()
        cost = sum(1 + len(line) // _LINE_BYTES for line in lines)
        if not one.allowance.spend(cost, now):
            if one.ended:
                self._leave_out(one, one.pipe.keep_last())
                self._say(one)
            elif not one.hung_up:
                self._ready.unregister(one.pipe.reader)
                one.paused_until = now + PAUSE
                if not self._paused:
                    self._skip_at = now
                self._paused.setdefault(one.pipe.reader)
        return cost

    def _closed(self, one: _Account) -> bool:
        """It has been closed, since there is no more to come."""
        if not one.ended or one.pipe.whole:
            return False
        del self._accounts[one.pipe.reader]
        one.pipe.close()
        return True

    def _empty(self) -> None:
        """Empty the pipes of those that are paused, and let go on those that have been for long."""
        now = self.loop.now()
        self._skip_at = now + _SKIP_AGAIN
        for _ in range(min(_SKIPS, len(self._paused))):
            number = _first(self._paused)
            one = self._accounts[number]
            self._leave_out(one, one.pipe.skip())
            if now < one.paused_until:
                self._paused.setdefault(number)
            else:
                self._say(one)
                self._ready.register(number, select.EPOLLIN)

    def _leave_out(self, one: _Account, lines: int) -> None:
        one.left_out += lines
        one.unsaid += lines

    def _say(self, one: _Account) -> None:
        if one.unsaid:
            self.log.say(
                f"{one.pipe.label} prints more than {RATE:,.0f} lines a second: {one.unsaid:,} of"
                " them are left out here",
                "warning",
            )
            one.unsaid = 0

    def _attend(self) -> None:
        """Be woken by who prints; not where nothing could be done about it."""
        wanted = not self._held
        if wanted and not self._watched:
            self.loop.watch(self._ready, _woken, Rank.NOTIFIED)
        elif self._watched and not wanted:
            self.loop.unwatch(self._ready)
        self._watched = wanted

    def hand_over(self) -> dict[int, str]:
        """Pass on every whole line that was read; by pipe, what is left, for a successor."""
        for one in self._accounts.values():
            while one.pipe.whole:
                self.log.pass_on(one.pipe.label, one.pipe.fields, one.pipe.lines(ROUND))
        self.log.finish()
        return {at: one.pipe.pending.decode("latin-1") for at, one in self._accounts.items()}

    def close(self) -> None:
        """Pass on what ended workers have left; pipes of others are their processes' to close."""
        for one in [one for one in self._accounts.values() if one.ended]:
            while not self._closed(one):
                self.log.pass_on(one.pipe.label, one.pipe.fields, one.pipe.lines(ROUND))
        self.log.finish()
        self._ready.close()


def _first(turns: dict[int, None]) -> int:
    """Take out the pipe that has waited longest."""
    number = next(iter(turns))
    del turns[number]
    return number


def _woken() -> None:
    """Somebody prints: what there is to do about it is done once in each round."""
