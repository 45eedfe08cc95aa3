"""Which processes get a signal that is passed on."""

from __future__ import annotations

import signal

from segue.supervisor.workers.passing import receivers, unheard

# A shell (2) runs a server (3), whose own process (4) has a handler too, and a helper (5).
BELOW = {2: {3: 30, 5: 50}, 3: {4: 40}, 5: {}, 4: {}}


def found(handlers: set[int], most: int = 9) -> dict[int, int]:
    return receivers(2, handlers.__contains__, lambda pid: BELOW[pid], most)


def test_what_is_below_a_process_with_a_handler_is_left_to_it() -> None:
    """The shell's server gets the signal, and the server's own process does not."""
    assert found({3, 4}) == {3: 30}


def test_a_server_without_a_handler_is_passed_over() -> None:
    """A process below it that has one is reached; where nobody has one nobody is signalled."""
    assert found({4, 5}) == {5: 50, 4: 40}
    assert found(set()) == {}


def test_a_search_for_handlers_ends() -> None:
    """No more processes are looked at than one look may cost."""
    assert found({5}, most=1) == {}


def test_who_is_left_alone_is_named() -> None:
    """One worker by name, several by the first and their number."""
    assert unheard(["worker 1.1"], signal.SIGUSR1) == (
        "worker 1.1 has no handler for USR1: it is left alone"
    )
    assert unheard(["worker 1.1", "worker 1.2", "worker 1.3"], signal.SIGUSR1) == (
        "worker 1.1 and 2 others have no handler for USR1: they are left alone"
    )
