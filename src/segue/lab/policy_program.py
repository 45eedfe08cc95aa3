"""A policy of ``segue.policy`` as the program of a group in the model.

Every question is put to it as plain Python and as eBPF in the interpreter, which must agree.
"""

from __future__ import annotations

import sys
from functools import cache

from segue.errors import InternalError
from segue.lab.policies import compiled
from segue.model.program import Question, SkAction
from segue.model.states import State
from segue.policy import common
from segue.policy.builtin import UNSELECTED
from segue.policy.integers import u32, u64
from segue.policy.language import Migrating, Verdict
from segue.policy.maps import Map
from segue.policy.plain import Conn, PlainGroup, Policy
from segue.policy.trial import Trial

_KINDS = {
    None: Migrating.NO,
    State.NEW_SYN_RECV: Migrating.REQUEST,
    State.SYN_RECV: Migrating.FASTOPEN,
}


class PolicyProgram:
    """Callable with a Question; ``cookies`` has the listeners that it may choose, by slot.

    Its maps begin empty, those of the plain Python too, which are the policy's own.
    """

    def __init__(self, policy: Policy) -> None:
        self.cookies: dict[int, int] = {}
        self._policy = policy
        self._trial = _trial(policy)
        self._plain = {one.name: one for one in compiled(policy).maps if isinstance(one, Map)}
        for one in (*self._plain.values(), *common.OWN):
            one.clear()
        for held in self._trial.maps.values():
            held.contents.clear()

    def put(self, name: str, key: int, value: int) -> None:
        """Set an element of one of its maps."""
        plain = self._plain[name]
        plain[key] = value
        self._trial.maps[name].update(key, value.to_bytes(plain.value_bytes, sys.byteorder))

    def __call__(self, question: Question) -> int | SkAction:
        """A listener's cookie or a verdict.  Raises InternalError when the two ways differ."""
        conn = _conn(question)
        plain = self._policy.decide(conn, PlainGroup(self.cookies))
        compiled = self._trial.decide(conn, self.cookies)
        if plain != compiled:
            raise InternalError(
                f"{self._policy.__name__} decides {plain} as Python and {compiled} as a program,"
                f" asked {question}"
            )
        if plain.verdict is Verdict.DROP:
            return SkAction.DROP
        return SkAction.PASS if plain.slot == UNSELECTED else self.cookies[plain.slot]


@cache
def _trial(policy: Policy) -> Trial:
    return Trial(compiled(policy))


def _conn(question: Question) -> Conn:
    if question.path is None:
        # As in the series, where no packet is all the sign there is that something migrates.
        return Conn(hash=u32(question.hash), migrating=Migrating.CHILD, cookie=u64(question.cookie))
    here, port = question.path.local
    there, from_port = question.path.remote
    conn = Conn(
        hash=u32(question.hash),
        remote_port=u32(from_port),
        local_port=u32(port),
        ipv6=question.path.is_ipv6,
        tcp_flags=u32(question.flags),
        migrating=_KINDS.get(question.migrating, Migrating.CHILD),
        cookie=u64(question.cookie),
        child_cookie=u64(question.migrating_cookie),
    )
    if conn.ipv6:
        conn.local_ip6, conn.remote_ip6 = _words(here), _words(there)
    else:
        conn.local_ip4, conn.remote_ip4 = (u32(int.from_bytes(one)) for one in (here, there))
    return conn


def _words(packed: bytes) -> tuple[u32, u32, u32, u32]:
    first, second, third, fourth = (
        u32(int.from_bytes(packed[at : at + 4])) for at in range(0, 16, 4)
    )
    return first, second, third, fourth
