"""How an attempt gets from one stage to the next: which step leads where, as a table.

``fates`` says what an end means at each stage; here is what happens before the end.  Pure.
"""

from __future__ import annotations

from segue.errors import IllegalInput
from segue.probe.fates import Fact, Stage


class Step(Fact):
    """What takes an attempt on."""

    HANDSHAKE = "TCP is connected, and TLS begins"
    CONNECTED = "connected, with TLS if it is asked for"
    SENT = "the kernel took bytes of the request"
    RECEIVED = "bytes of the answer came"
    KEPT = "the last answer is whole, and the connection stays open"
    HELD = "the same for a WebSocket"
    NEXT_BEGUN = "answered; bytes of the next request are sent"
    NEXT_WAITS = "answered; the next request is not begun"


STEPS: dict[tuple[Stage, Step], Stage] = {
    (Stage.CONNECTING, Step.HANDSHAKE): Stage.HANDSHAKE,
    (Stage.CONNECTING, Step.CONNECTED): Stage.CONNECTED,
    # On loopback the connection is made inside connect(), and the request goes out at once.
    (Stage.CONNECTING, Step.SENT): Stage.SENT,
    (Stage.HANDSHAKE, Step.CONNECTED): Stage.CONNECTED,
    (Stage.CONNECTED, Step.SENT): Stage.SENT,
    (Stage.SENT, Step.SENT): Stage.SENT,
    # A server may answer while an upload goes on, or while we say nothing.
    (Stage.ANSWERING, Step.SENT): Stage.ANSWERING,
    (Stage.CONNECTED, Step.RECEIVED): Stage.ANSWERING,
    (Stage.SENT, Step.RECEIVED): Stage.ANSWERING,
    (Stage.ANSWERING, Step.RECEIVED): Stage.ANSWERING,
    (Stage.ANSWERING, Step.NEXT_BEGUN): Stage.SENT,
    (Stage.ANSWERING, Step.NEXT_WAITS): Stage.CONNECTED,
    (Stage.ANSWERING, Step.KEPT): Stage.IDLE,
    (Stage.IDLE, Step.SENT): Stage.SENT,
    # A WebSocket's frames are not counted as parts of an answer.
    (Stage.ANSWERING, Step.HELD): Stage.HELD,
    (Stage.SENT, Step.HELD): Stage.HELD,
    (Stage.HELD, Step.SENT): Stage.SENT,
}


def advance(stage: Stage, step: Step) -> Stage:
    """The stage after this step.  Raises IllegalInput for one that cannot come now."""
    try:
        return STEPS[stage, step]
    except KeyError:
        legal = [known.name for at, known in STEPS if at is stage]
        raise IllegalInput("an attempt", stage.name, step.name, legal) from None
