"""A group of listeners that nobody opened, and what was done to it: no kernel is asked."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segue.address import Address
from segue.engine.attached import Attached, AttachedListener
from segue.engine.generations import Generations
from segue.engine.membership import MembershipWatch
from segue.engine.migrate import Migrate
from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice
from segue.errors import KernelError
from segue.group import Group, Listener
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer, Part
from segue.policy.counts import Counts
from segue.supervisor.attach import account
from segue.supervisor.attach.account import Account
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.orders import Orders
from segue.supervisor.attach.rescues import Rescues
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Client
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.loop import Loop
from segue.supervisor.settings import Bind

HERE = Address("127.0.0.1", 8080)


class RecordingSteering(Migrate):
    """The shares that it was given, in order; without a program, and so without the kernel."""

    def __init__(self, cookies: Mapping[int, int]) -> None:
        self.by_slot = dict(cookies)
        self.shares: list[dict[int, float]] = []
        self.closed = False

    def share(self, weights: Mapping[int, float]) -> None:
        total = sum(weights.values())
        self.shares.append({slot: round(one / total, 6) for slot, one in weights.items()})

    def cookies(self) -> dict[int, int]:
        return dict(self.by_slot)

    def forget(self, slot: int) -> None:
        self.by_slot.pop(slot, None)

    def counted(self, slot: int) -> Counts:
        return Counts(new=slot)

    def counts(self) -> dict[int | None, Counts]:
        return {None: Counts(), **{slot: Counts(new=slot) for slot in self.by_slot}}

    def identities(self) -> dict[str, int]:
        return {"program": 1}

    def close(self) -> None:
        self.closed = True


class RecordedGroup(Observer):
    """What there is to be seen of the group: listeners by cookie, which a test takes away."""

    def __init__(self, *cookies: int) -> None:
        self.on_look: Callable[[], object] = lambda: None
        self.listeners = {one: Listener(one, HERE, 0, 0, 0, 8, 0) for one in cookies}

    def snapshot(
        self,
        address: Address,
        *parts: Part,
        pids: frozenset[int] = frozenset(),
    ) -> Group:
        return Group(address, tuple(self.listeners.values()))

    def queued(self, address: Address) -> dict[int, int]:
        self.on_look()
        return dict.fromkeys(self.listeners, 0)


class RecordingClient(Client):
    """What it was told; the other end is the test's."""

    def __init__(self) -> None:
        mine, self.other = socket.socketpair()
        super().__init__(mine)
        self.told: list[str] = []
        self.answer: dict[str, Any] = {}

    def say(self, text: str) -> None:
        self.told.append(text)

    def end(self, code: int, **more: Any) -> None:
        self.answer = {"exit": code, **more}
        self.close()

    def hang_up(self) -> None:
        self.other.close()

    def close(self) -> None:
        super().close()
        self.other.close()


def group(*generations: int) -> tuple[Attached, RecordingSteering, RecordedGroup]:
    """A listener of each of these generations, that has accepted: slots from 0, cookies 100 up."""
    cookies = {slot: 100 + slot for slot in range(len(generations))}
    steering, seen = RecordingSteering(cookies), RecordedGroup(*cookies.values())
    attached = Attached(HERE, seen, steering, Rule.parse("start"), Generations())
    now = time.monotonic()
    attached.members = {
        cookies[slot]: AttachedListener(cookies[slot], slot, number, now, ready=True)
        for slot, number in enumerate(generations)
    }
    attached.strength = 1
    attached.pass_over((0,))  # nobody's cookie: it makes the first shares
    attached.pass_over(())
    steering.shares.clear()
    return attached, steering, seen


class Desk:
    """The orders of one recorded group, and everything that was said and taken off."""

    def __init__(self, directory: Path, *generations: int, **settings: Any) -> None:
        self.attached, self.steering, self.seen = group(*generations)
        self.said: list[str] = []
        self.taken_off: list[Address] = []
        self.refusal: KernelError | None = None
        self.loop = Loop(self.said.append)
        wanted = AttachSettings(HERE, name="t", traced=False, **settings)
        self.attachment = Attachment(
            wanted, Paths(f"{directory}/t"), Pins("t", str(directory)), EngineChoice("migrate"),
            self.seen, self.attached, Front(0, Bind("", HERE), self.steering, self.seen),
            self.loop, Log(), Tracing(self.loop, wanted.program_choice),
            MembershipWatch(HERE.port, self.loop.now(), traced=False),
        )  # fmt: skip
        self.rescues = Rescues(self.attachment, lambda: None)
        self.orders = Orders(
            self.attachment, Account(self.attachment), self.rescues, self._take_off
        )

    def _take_off(self, address: Address, *_: object) -> bool:
        if self.refusal is not None:
            raise self.refusal
        self.taken_off.append(address)
        return True

    def record(self) -> dict[str, Any]:
        """What the next attach would read."""
        return account.read(self.attachment.paths)

    def close(self) -> None:
        self.rescues.close()
        self.loop.close()
