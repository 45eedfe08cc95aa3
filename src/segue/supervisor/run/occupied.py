"""A port that a connection has: nobody listens there, and bind(2) fails all the same.

An outgoing connection may have got the port from net.ipv4.ip_local_port_range, and mostly it ends
soon.  So a start waits for that a while.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator

from segue.address import Address
from segue.errors import KernelError
from segue.linux import proc
from segue.linux.inet_diag import Entry
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer
from segue.supervisor.run.service import Service

_WAIT = 10.0  # seconds, or as long as --start-retry says
_AGAIN = 0.2
_ADVICE = (
    "choose another --bind, or keep the port from connections (net.ipv4.ip_local_reserved_ports)"
)
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# In these a socket has its port, as a connection.
_STATES = (
    *(State.ESTABLISHED, State.SYN_SENT, State.FIN_WAIT1, State.FIN_WAIT2, State.TIME_WAIT),
    *(State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING),
)


def connection_at(observer: Observer, address: Address) -> str:
    """The connection that keeps a listener from this address, for a sentence; "" if none does.

    Where somebody listens, connections are the listener's.  Raises KernelError.
    """
    if any(observer.diag.listeners(address.port, one) for one in _FAMILIES):
        return ""
    for one in _connections(observer, address):
        owners = proc.owners([one.inode]).get(one.inode, ()) if one.inode else ()
        whose = f" of {proc.describe(owners)}" if owners else ""
        ended = " (in TIME_WAIT)" if one.state == State.TIME_WAIT else ""
        here, there = Address(one.host, one.port), Address(one.peer_host, one.peer_port)
        return f"the connection from {here} to {there}{whose}{ended} has this port"
    return ""


def _connections(observer: Observer, address: Address) -> Iterator[Entry]:
    there = address.in_ipv6
    hosts = {address.host} if there is None else {address.host, there.host}
    for family in _FAMILIES:
        for one in observer.diag.dump(_STATES, family=family, sport=address.port):
            if address.wildcard or one.host in hosts:
                yield one


def wait_for_ports(service: Service, open_all: Callable[[], None]) -> None:
    """Open listeners, and try again for a while where connections have their ports.

    Raises KernelError, which names the connection.
    """
    said, begun = "", time.monotonic()
    limit = max(_WAIT, service.limits.start_retry)
    while True:
        try:
            return open_all()
        except KernelError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            found = [connection_at(service.observer, one.asked) for one in service.fronts]
            why = next(filter(None, found), "")
            if not why:
                raise
            if time.monotonic() >= begun + limit:
                advice = f"{why}: {_ADVICE}"
                raise KernelError(error.call, error.errno, error.doing, advice) from error
        if why != said:
            said = why
            service.warn(f"{why}: a listener is tried for {limit:g} s")
        time.sleep(_AGAIN)
