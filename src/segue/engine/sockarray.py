"""Getting a listener into a REUSEPORT_SOCKARRAY that a crashed supervisor's program still has.

A socket can be in one array only, and an array lives as long as a program that uses it.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator

from segue.errors import KernelError
from segue.linux.bpf_maps import Map
from segue.policy import builtin

# What a crashed supervisor's program held is freed by a kernel worker after a grace period: mostly
# 16 to 17 ms, 31 at most in 60 tries (measured on 6.18).  The rest is for a starved machine.
FREED_WITHIN = 2.0
_LOOK_AGAIN = 0.002


def put(array: Map, place: int, listener: socket.socket, attach: Callable[[], None]) -> None:
    """Put the listener here, in place of who was here.

    When another array has it, ``attach`` puts our program in the place of that array's, which is
    what lets go of it, and it is waited for at most FREED_WITHIN seconds.  Raises KernelError:
    EINVAL when the socket is not listening with SO_REUSEPORT, EBUSY when a living program keeps it.
    """
    replaced = False
    for _ in _until(FREED_WITHIN):
        try:
            array.update(builtin.encode_number(place), builtin.encode_socket(listener.fileno()))
        except KernelError as error:
            if error.errno != errno.EBUSY:
                raise
            if not replaced:
                attach()
                replaced = True
        else:
            return
    raise KernelError(
        "bpf(BPF_MAP_UPDATE_ELEM)",
        errno.EBUSY,
        f"getting a listener into slot {place}",
        "another Segue or another program that still runs has this listener in its own array",
    )


def _until(seconds: float) -> Iterator[None]:
    """Go round, a moment apart, until the time is over; at least once."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() >= end:
            return
        time.sleep(_LOOK_AGAIN)
