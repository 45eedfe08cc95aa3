"""The end of an instance, as pure decisions: what a signal means, and the time that a stop has."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import replace
from enum import Enum, auto

from segue.supervisor.lifecycle.limits import Limits
from segue.supervisor.lifecycle.stages import Phase

ENDING = frozenset({Phase.LEAVING, Phase.STOPPING, Phase.ENDED})


class Meaning(Enum):
    """What follows from a signal that asks for the end."""

    BEGIN = auto()  # let the workers finish
    GO_ON = auto()  # that is under way already
    AT_ONCE = auto()  # kill them


def meaning(phase: Phase, number: int, before: Collection[int]) -> Meaning:
    """What this signal means in this phase, after the signals that came ``before``.

    Service managers send TERM twice as a matter of course: ExecStop and then KillSignal, a preStop
    hook and then the kubelet, `docker stop` beside a shutdown.  A terminal that closes sends HUP
    twice, by the shell and by the kernel.  Only a person at a terminal repeats INT.
    """
    if number == signal.SIGQUIT:
        return Meaning.AT_ONCE
    if phase not in ENDING:
        return Meaning.BEGIN
    if number == signal.SIGINT and number in before:
        return Meaning.AT_ONCE
    return Meaning.GO_ON


def fitted(limits: Limits) -> Limits:
    """The limits as they are while an instance stops: none reaches beyond the stop limit.

    The delay is kept whole, since a balancer needs its time however little is left.  A worker may
    finish its connections for as long as is left then.  Of that, the time from the stop signal to
    SIGKILL has the part that it would have of both.
    """
    left = limits.stop_limit - limits.stop_delay
    asked = limits.drain_timeout + limits.stop_timeout
    if not limits.stop_limit or asked <= left:
        return limits
    return replace(
        limits,
        drain_timeout=min(limits.drain_timeout, left),
        stop_timeout=limits.stop_timeout * left / asked,
    )
