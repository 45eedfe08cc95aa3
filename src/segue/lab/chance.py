"""Stories by chance: replayed on Linux and on the model, they find differences by search.

A story is built call by call over two or three listeners of one group and a few clients, so that
most of its steps mean something: a client speaks after its SYN, an accepted connection is read.
``choose`` is the only chance: Hypothesis gives it in the tests, and can then shrink what it found.

Kept out: a choice among several live siblings, since the kernel's hash has a secret; so there is
always one live listener that can be the target.  And data after a client's own FIN, which the model
tells as a range of its own when the FIN came early (docs/MODEL.md, under what is left out).  When a
tail probe follows a SYN cookie is up to chance; few stories wait for just so long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Choose = Callable[[Sequence[str]], str]

_SETTINGS = (
    "sysctl tcp_migrate_req 1",
    "sysctl tcp_migrate_req 0",
    "sysctl tcp_abort_on_overflow 1",
    "sysctl tcp_abort_on_overflow 0",
    "sysctl tcp_syncookies 0",
    "sysctl tcp_syncookies 1",
    "sysctl tcp_syncookies 2",
    "sysctl tcp_synack_retries 1",
)
_BEGINNINGS = ("sysctl tcp_migrate_req 1",) * 6 + _SETTINGS[1:]
_FAMILIES = ("", "", "ipv6")
_FAST_OPEN = ("", "", "sysctl tcp_fastopen 515", "sysctl tcp_fastopen 3")
_OPTIONS = ("", "", "", "TCP_DEFER_ACCEPT 5", "TCP_FASTOPEN 1", "TCP_FASTOPEN 4")
_PROGRAMS = (
    "by_cookie", "by_cookie", "never_migrate", "cancel_when_different", "nobody_new", "gone",
    "by_cookie select", "never_migrate select",
)  # fmt: skip
_OFFERS = (
    "", "mss=536", "mss=1300 stamps", "mss=1460 sack", "mss=1460 scale=7 sack",
    "mss=1460 scale=7 sack stamps cookie", "mss=1400 cookie", "mss=1400 stamps cookie=wrong",
)  # fmt: skip
_CLIENTS = ("c", "d", "e")
_BACKLOGS = ("16", "16", "0", "1")
_WAITS = ("0.3", "1.2")
_WORDS = ("x", "hello", "hello", "@700", "@1448")
_WRITES = ("bye", "bye", "ab", "@300", "@1448", "@3000", "@6000", "@20000")
_WINDOWS = ("0", "2", "20", "500", "500", "30000")
_LOST = ("1", "1", "2", "3", "5", "9")
_SIDES = ("read", "write")
_CLAIMS = ("-1", "1", "7")
_STAMPS = ("990", "1001", "1010")
_SET = ("TCP_NODELAY 1", "TCP_NODELAY 0", "TCP_CORK 1", "TCP_CORK 0", "SO_LINGER 0")


class _Builder:
    """What a story has so far, and what may come next."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self.steps: list[str] = []
        self._live = ""
        self._programs = 0
        self._sends = False  # a program is attached that can be told where to
        self._generations = 0
        self._speaking: list[str] = []
        self._ended: set[str] = set()
        self._accepted: list[str] = []
        self._accepts = 0
        self._waits = 0

    def begin(self) -> None:
        first = [self._choose(one) for one in (_FAMILIES, _BEGINNINGS, _FAST_OPEN)]
        self.steps += [one for one in first if one]
        self._restart()

    def step(self) -> None:
        kinds = ["syn", "syn", "restart", "setting", "accept"]
        if not self._programs:
            kinds.append("program")
        if self._speaking:
            kinds += ["ack", "ack", "fin", "rst", "skip", "again"]
            kinds += ["window", "claim", "stamp", "lose"]
        if set(self._speaking) - self._ended:
            kinds.append("data")
        if self._accepted:
            kinds += ["read", "read", "write", "write", "end", "set", "half"]
        if self._waits < 2:
            kinds.append("wait")
        getattr(self, f"_{self._choose(kinds)}")()

    def _restart(self) -> None:
        """The next generation listens, and the one before it stops."""
        old, self._generations = self._live, self._generations + 1
        self._live = f"L{self._generations}"
        option = self._choose(_OPTIONS)
        if option:
            self.steps.append(f"option {self._live} {option}")
        self.steps.append(f"listen {self._live} {self._choose(_BACKLOGS)}")
        if old:
            if self._sends and self._choose(("", "yes")):
                self.steps.append(f"send {old} {self._live}")
            self.steps.append(f"{self._choose(('close', 'shutdown'))} {old}")

    def _setting(self) -> None:
        self.steps.append(self._choose(_SETTINGS))

    def _program(self) -> None:
        # One in a story: a listener can be in the table of one program only.
        self._programs += 1
        program = self._choose(_PROGRAMS)
        self._sends = program.startswith("by_cookie")
        self.steps.append(f"program {self._live} {program}")

    def _syn(self) -> None:
        fresh = [one for one in _CLIENTS if one not in self._speaking]
        if fresh:
            self._speaking.append(fresh[0])
            if self._choose(("", "", "yes")):
                self.steps.append(f"offer {fresh[0]} {self._choose(_OFFERS)}".rstrip())
            self.steps.append(f"syn {fresh[0]} {self._choose(('', '', 'early'))}".rstrip())

    def _ack(self) -> None:
        self.steps.append(f"ack {self._choose(self._speaking)}")

    def _data(self) -> None:
        able = [one for one in self._speaking if one not in self._ended]
        self.steps.append(f"data {self._choose(able)} {self._choose(_WORDS)}")

    def _fin(self) -> None:
        ended = self._choose(self._speaking)
        self._ended.add(ended)
        self.steps.append(f"fin {ended}")

    def _rst(self) -> None:
        self.steps.append(f"rst {self._choose(self._speaking)}")

    def _skip(self) -> None:
        """A loss."""
        self.steps.append(f"skip {self._choose(self._speaking)} {self._choose(('1', '5'))}")

    def _again(self) -> None:
        """A segment comes late, or twice."""
        self.steps.append(f"skip {self._choose(self._speaking)} {self._choose(('-1', '-5'))}")

    def _accept(self) -> None:
        self._accepts += 1
        self._accepted.append(f"x{self._accepts}")
        self.steps.append(f"accept {self._live} x{self._accepts}")

    def _read(self) -> None:
        self.steps.append(f"read {self._choose(self._accepted)}")

    def _write(self) -> None:
        self.steps.append(f"write {self._choose(self._accepted)} {self._choose(_WRITES)}")

    def _set(self) -> None:
        self.steps.append(f"option {self._choose(self._accepted)} {self._choose(_SET)}")

    def _half(self) -> None:
        """One side is shut."""
        self.steps.append(f"shutdown {self._choose(self._accepted)} {self._choose(_SIDES)}")

    def _window(self) -> None:
        """Told with the client's next segment, which so follows: an ACK, or data with news."""
        speaker = self._choose(self._speaking)
        self.steps.append(f"window {speaker} {self._choose(_WINDOWS)}")
        if speaker in self._ended or self._choose(("", "yes")):
            self.steps.append(f"ack {speaker}")
            return
        if self._accepted and self._choose(("", "yes")):
            self._write()
        self.steps.append(f"data {speaker} {self._choose(_WORDS)}")

    def _claim(self) -> None:
        self.steps.append(f"claim {self._choose(self._speaking)} {self._choose(_CLAIMS)}")

    def _lose(self) -> None:
        """Some of what the client is sent, mostly where something is sent just then."""
        speaker = self._choose(self._speaking)
        self.steps += [f"lose {speaker} {self._choose(_LOST)}" for _ in self._choose(("1", "12"))]
        if self._accepted and self._choose(("", "yes", "yes")):
            self._write()
            self.steps += [f"ack {speaker}"] * len(self._choose(("", "1", "12")))

    def _stamp(self) -> None:
        self.steps.append(f"stamp {self._choose(self._speaking)} {self._choose(_STAMPS)}")

    def _end(self) -> None:
        ended = self._choose(self._accepted)
        self._accepted.remove(ended)
        self.steps.append(f"close {ended}")

    def _wait(self) -> None:
        self._waits += 1
        self.steps.append(f"wait {self._choose(_WAITS)}")


def story(choose: Choose, steps: int) -> str:
    """One of about so many steps, in the words of segue.lab.verbs."""
    made = _Builder(choose)
    made.begin()
    for _ in range(steps):
        made.step()
    return "\n".join(made.steps)
