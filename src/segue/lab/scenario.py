"""A client and a server with a link between them, ready to use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random

from segue.lab.cable import Cable
from segue.lab.hosts import Host
from segue.lab.link import Conditions, Direction, Link

CLIENT, SERVER = "10.77.0.1", "10.77.0.2"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Two hosts; the cable's ``forth`` is from the client to the server."""

    client: Host
    server: Host
    cable: Cable


@contextmanager
def distance(
    forth: Conditions, back: Conditions | None = None, *, seed: int = 0, sources: int = 1
) -> Iterator[Scenario]:
    """Hosts so far apart, for as long as the block; after it nothing of them is left.

    A round trip takes both delays; the way back is as the way forth unless it is told otherwise.
    The same seed has the same losses and jitter, packet for packet.  The client has so many
    addresses as ``sources``, from 10.77.1.1 on beside its first, since each has no more than
    28,232 ports by default.  Needs CAP_SYS_ADMIN and /dev/net/tun; raises KernelError.
    """
    with ExitStack() as stack:
        client = stack.enter_context(Host("client"))
        server = stack.enter_context(Host("server"))
        first = client.plug(f"{CLIENT}/16")
        second = server.plug(f"{SERVER}/16")
        for number in range(sources - 1):
            client.add_address(f"10.77.{1 + number // 250}.{1 + number % 250}/16")
        # Made last, so closed first: it uses the devices of both.
        cable = stack.enter_context(Cable(link(forth, back, seed=seed), first, second))
        yield Scenario(client, server, cable)


def link(forth: Conditions, back: Conditions | None = None, *, seed: int = 0) -> Link:
    """Two pipes whose chances are apart; without conditions of its own the way back has those of
    the way forth.
    """
    # Apart, or packets on the way back would change the fates of those on the way forth.
    out, home = Random(2 * seed), Random(2 * seed + 1)  # noqa: S311 - no secret: repeatable
    return Link(Direction(forth, out.random), Direction(back or forth, home.random))
