"""The engine without privileges: new connections steered by classic BPF, old ones waited for.

Works on any kernel since 4.6.  It has no say in migration, so a listener may be closed only when
nothing waits in it; the supervisor keeps its descriptor until then.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Mapping, Sequence

from segue.engine.index_order import IndexOrder
from segue.errors import KernelError, UsageError
from segue.linux import cbpf
from segue.linux.sockopt import cookie
from segue.policy.counts import Counts
from segue.shares import SIZE, quotas

_SPREAD = 0x9E3779B1  # Knuth's multiplicative hash: 2**32 divided by the golden ratio
_SOURCE_PORT_IPV4 = 20  # a SYN of our own has no IP options
_SOURCE_PORT_IPV6 = 40


class Drain:
    """Steering of one group; holds no descriptor of its own."""

    name = "drain"
    migrates = False
    by_index = True

    def __init__(self) -> None:
        self._order = IndexOrder()
        self._members: dict[int, socket.socket] = {}
        self._cookies: dict[int, int] = {}
        self._weights: dict[int, float] = {}
        self._pins: dict[int, int] = {}

    def join(self, slot: int, listener: socket.socket) -> None:
        """See Steering.  The listener must be the last of its group that listened."""
        if slot in self._members:
            raise UsageError(f"slot {slot} is taken")
        self._members[slot] = listener
        self._cookies[slot] = cookie(listener)
        if not self._order.member(self._cookies[slot]):
            self._order.joined(self._cookies[slot])

    def share(self, weights: Mapping[int, float]) -> None:
        """See Steering.  The flip is one setsockopt, which replaces the program."""
        missing = [slot for slot, weight in weights.items() if weight and slot not in self._members]
        if missing:
            raise UsageError(f"slot {missing[0]} has not joined")
        quotas(weights)
        self._weights = dict(weights)
        self._attach(self._places())

    def pin(self, port: int, slot: int) -> None:
        """See Steering."""
        if slot not in self._members:
            raise UsageError(f"slot {slot} has not joined")
        self._pins[port] = slot
        self._attach(self._places())

    def unpin(self, port: int) -> None:
        """See Steering."""
        if self._pins.pop(port, None) is not None:
            self._attach(self._places())

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        """See Steering.  A member that listens again stands last."""
        self._order.left(self._cookies[slot])
        self._order.joined(self._cookies[slot])
        self._members[slot] = listener
        self._attach(self._places())

    def leave(self, slot: int, listener: socket.socket) -> None:
        """See Steering.

        When a member leaves, the last one moves into its place; between the close and the next
        program a SYN would find the old places.  So the last member steps aside first: a program
        that does not use its place is attached, then the listener is closed, then the exact one.
        When nobody else has a share, that program names the place it is about to move to.
        """
        gone = self._cookies.pop(slot, None)
        self._members.pop(slot, None)
        self._weights.pop(slot, None)
        self._pins = {port: to for port, to in self._pins.items() if to != slot}
        if gone is None:
            listener.close()
            return
        # Whoever still finds this listener in that moment is not answered, and tries again.
        cbpf.attach_filter(listener, [cbpf.answer(0)])
        places = self._places()
        last = next((s for s, c in self._cookies.items() if c == self._order.last), None)
        if last is not None:
            hole = self._order.index(gone)
            del places[last]
            if hole is not None and not any(self._weights.get(one) for one in places):
                places[last] = hole
        self._attach(places)
        listener.close()
        self._order.left(gone)
        self._attach(self._places())

    def counts(self) -> dict[int, Counts]:
        """Nothing: classic BPF cannot count."""
        return {}

    def descriptors(self) -> dict[str, int]:
        """Nothing: the program lives with the group."""
        return {}

    def order(self) -> list[int]:
        """The picture of the kernel's order, for a successor."""
        return self._order.record()

    def adopt_order(self, order: Sequence[int]) -> None:
        """Start from a predecessor's picture."""
        self._order = IndexOrder(order)

    def check(self, cookies: Collection[int]) -> list[str]:
        """Compare the picture with the members seen; what changed without us, in sentences."""
        left, joined = self._order.reconcile(cookies)
        if left or joined:
            self._attach(self._places())
        said = [f"{len(left)} listener(s) left the group unannounced"] if left else []
        unsure = [slot for slot, one in self._cookies.items() if self._order.index(one) is None]
        if unsure:
            said.append(
                f"the kernel's place of {len(unsure)} listener(s) is not certain any more;"
                " they get no new connections until the next restart"
            )
        return said

    def close(self) -> None:
        """See Steering."""
        self._members.clear()

    def _places(self) -> dict[int, int]:
        """Slot -> place, of the members whose place is certain."""
        return {
            slot: place
            for slot, one in self._cookies.items()
            if (place := self._order.index(one)) is not None
        }

    def _attach(self, places: Mapping[int, int]) -> None:
        member = next(iter(self._members.values()), None)
        if member is None:
            return
        able = {slot: weight for slot, weight in self._weights.items() if slot in places and weight}
        if not able:
            # An old program would name places by an old order; rather let the kernel's hash decide.
            with contextlib.suppress(KernelError):
                cbpf.detach_reuseport(member)
            return
        pins = {port: places[slot] for port, slot in self._pins.items() if slot in places}
        shares = [(places[slot], count) for slot, count in sorted(quotas(able).items())]
        cbpf.attach_reuseport(member, steering(shares, pins, member.family))


def steering(
    shares: Sequence[tuple[int, int]], pins: Mapping[int, int], family: int
) -> list[cbpf.Instruction]:
    """The program: pins by source port, then (index, entries of SIZE) by a hash.

    The hash is the flow's (SKF_AD_RXHASH), stirred because the kernel's own pick used its high
    bits; over a device that computes none it is zero, and the source port is stirred instead.
    """
    port = _SOURCE_PORT_IPV6 if family == socket.AF_INET6 else _SOURCE_PORT_IPV4
    program: list[cbpf.Item] = [cbpf.load_network(port, cbpf.Width.U16)]
    for number, place in pins.items():
        program += _unless(cbpf.jump_if(cbpf.Test.EQ, number, otherwise=f"not {number}"), place)
    program += [
        cbpf.x_from_a(),
        cbpf.load_ancillary(cbpf.Ancillary.RXHASH),
        cbpf.alu_x(cbpf.Alu.XOR),
        cbpf.alu_imm(cbpf.Alu.MUL, _SPREAD),
        cbpf.alu_imm(cbpf.Alu.RSH, 32 - (SIZE - 1).bit_length()),
    ]
    bound = 0
    for place, count in shares[:-1]:
        bound += count
        program += _unless(cbpf.jump_if(cbpf.Test.GE, bound, then=f"from {bound}"), place)
    program.append(cbpf.answer(shares[-1][0]))
    return cbpf.assemble(program)


def _unless(branch: cbpf.Branch, place: int) -> list[cbpf.Item]:
    """Answer the place, unless the branch is taken; it leads to what follows."""
    return [branch, cbpf.answer(place), cbpf.Label(branch.then or branch.otherwise)]
