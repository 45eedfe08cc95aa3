"""What a request to stop means, given those that came before: a pure decision."""

from __future__ import annotations

import signal
from collections.abc import Collection
from enum import Enum, auto

from segue.supervisor.lifecycle.stages import Phase

ENDING = frozenset({Phase.STOPPING, Phase.ENDED})


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
