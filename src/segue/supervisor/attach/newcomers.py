"""Newcomers of an attached group, asked whether they accept before they get a share.

Where most of a group has gone at once (workers that all end after the same number of requests), the
few that are proven would get everything until then, and soon be gone too.  There a newcomer has its
share from the beginning, as it would without us, and must prove itself within a moment to keep it.
"""

from __future__ import annotations

from collections.abc import Mapping

from segue.engine.attached import Attached, AttachedListener
from segue.errors import SegueError
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import HeldListener
from segue.supervisor.question import Question
from segue.supervisor.workers.readiness import Readiness

_AT_ONCE = 32  # knocks; half of the pins that a program has
# Who accepts within a second gets its share 10 ms later; who takes longer can wait for a tenth.
_NEW, _QUICK, _SLOW, _NEVER = 1.0, 0.01, 0.1, float("inf")
_PAUSE = 1.0  # seconds, when a newcomer cannot be asked at all
# Seconds for which a newcomer is trusted.  A server that listens when it is ready accepts within
# some milliseconds; one that does not must not keep many clients waiting.
TRUSTED = 0.1
_SOON = 0.002  # seconds from look to look while any is trusted, which many clients may depend on
# After so many seconds it is worth a line that a newcomer has not accepted anything.
_LATE = 10.0


def trusted(members: Mapping[int, AttachedListener], strength: int, now: float) -> frozenset[int]:
    """The newcomers that have a share before they are proven, by cookie.

    There are some while fewer than half of as many as are wanted are proven, if any is: where none
    is, everybody has a share.
    """
    proven = sum(one.ready for one in members.values())
    if not 0 < 2 * proven < strength:
        return frozenset()
    return frozenset(
        cookie for cookie, one in members.items() if not one.ready and now < one.since + TRUSTED
    )


class Newcomers:
    """One proof for each member that is not ready; ``question`` needs a good answer if given."""

    def __init__(self, attached: Attached, front: Front, question: Question | None) -> None:
        self._attached, self._front, self._question = attached, front, question
        self._proofs: dict[int, Readiness] = {}  # by cookie
        self._paused: dict[int, float] = {}  # by cookie: until when it is not asked again
        self._late: set[int] = set()

    def pace(self, now: float) -> float:
        """How long ``step`` may wait: while a newcomer is new, its share is awaited."""
        members = self._attached.members
        came = [members[one].since for one in self._proofs if one in members]
        if not came:
            return _NEVER
        if self._attached.trusted:
            return _SOON
        return _QUICK if now < max(came) + _NEW else _SLOW

    def step(self, now: float) -> tuple[bool, list[str]]:
        """Ask each newcomer once: whether one was found ready, and what is worth saying."""
        said: list[str] = []
        self._attached.trust(trusted(self._attached.members, self._attached.strength, now))
        unready = {cookie: one for cookie, one in self._attached.members.items() if not one.ready}
        for gone in self._proofs.keys() - unready.keys():
            self._proofs.pop(gone).close()
        self._late &= unready.keys()
        self._paused = {one: until for one, until in self._paused.items() if now < until}
        found = False
        for cookie, member in unready.items():
            crowd = cookie not in self._proofs and len(self._proofs) >= _AT_ONCE
            if crowd or cookie in self._paused:
                continue
            proof = self._proofs.setdefault(cookie, Readiness("accept", self._question))
            try:
                ready = proof.step([self._front], (HeldListener(0, member.slot, cookie),), now)
            except (SegueError, OSError) as error:
                # The address cannot be reached from here, or its pins are all in use.
                ready, proof.why = False, str(error)
                self._proofs.pop(cookie).close()
                self._paused[cookie] = now + _PAUSE
            member.missing = "" if ready else proof.why
            if ready:
                self._proofs.pop(cookie).close()
                self._attached.set_ready(cookie)
                found = True
            elif now > member.since + _LATE and cookie not in self._late:
                self._late.add(cookie)
                why = proof.why or "it does not accept"
                said.append(f"worker{member.slot} gets no share while others are ready: {why}")
        self._attached.trust(trusted(self._attached.members, self._attached.strength, now))
        return found, said

    def close(self) -> None:
        """Hang up on everybody."""
        for proof in self._proofs.values():
            proof.close()
