"""How listeners and clients stand at an instant, by name."""

from __future__ import annotations

from dataclasses import dataclass

LISTENS = "listens"
KEPT = "stopped, kept"  # in the closed section of its group
STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ListenerStands:
    """``queue`` and ``half_open`` are names of clients, oldest first; ``room`` is how many the
    queue holds; ``counted`` is how many half-open ones it believes to have; ``slots`` are those of
    Fast Open, used and all, None without Fast Open.
    """

    name: str
    state: str
    queue: tuple[str, ...] = ()
    room: int = 0
    half_open: tuple[str, ...] = ()
    counted: int = 0
    slots: tuple[int, int] | None = None

    @property
    def is_live(self) -> bool:
        """It listens."""
        return self.state == LISTENS

    @property
    def is_there(self) -> bool:
        """It has listened, and somebody still has it or refers to it."""
        return self.state in (LISTENS, KEPT)


@dataclass(frozen=True, slots=True)
class ClientStands:
    """What the server has of a client: a state by the kernel's name, "" for nothing, and where.

    ``where`` is a listener, or the program's name for the connection, which then was accepted from
    ``accepted_by``.
    """

    name: str
    state: str = ""
    where: str = ""
    accepted_by: str = ""
