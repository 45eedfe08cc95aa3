"""Where the probe connects from: the addresses that are asked for, or those of the loopback.

Without being asked it comes from 127.0.0.2 and further where the target is at 127.x.  One address
has 28,232 ports by default (ip_local_port_range), and each stays in TIME-WAIT for 60 s if we are
first to close: 64 addresses last for 30,000 connections a second.
"""

from __future__ import annotations

import ipaddress
import socket

from segue.address import Address
from segue.errors import UsageError

LOOPBACK = 64  # addresses
_EVERYBODY = ipaddress.ip_address("255.255.255.255")


def loopback(target: Address) -> tuple[str, ...]:
    """The addresses for a target at 127.x; none for another, where the kernel is to choose."""
    near = ipaddress.ip_address(target.near)
    if near.version == 6 or not near.is_loopback:
        return ()
    return tuple(f"127.0.0.{2 + number}" for number in range(LOOPBACK))


def parse(text: str, target: Address) -> tuple[str, ...]:
    """The addresses of ``--from``, of this machine and of the target's family.

    Raises UsageError for any other.
    """
    return tuple(_one(word.strip(), target) for word in text.split(","))


def _one(word: str, target: Address) -> str:
    try:
        found = ipaddress.ip_address(word.strip("[]"))
    except ValueError:
        raise UsageError(
            f"--from must be addresses such as 127.0.0.1 or ::1, with commas between (got {word!r})"
        ) from None
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    if family != target.family:
        raise UsageError(
            f"--from {found} is IPv{found.version}, and {target} is not: give one of its family"
        )
    if found.is_unspecified or found.is_multicast or found == _EVERYBODY:
        raise UsageError(f"--from {found} is no address of one host: nothing can come from it")
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((str(found), 0))
        except OSError as error:
            raise UsageError(
                f"--from {found} cannot be used ({error.strerror}): it must be an address of this"
                " machine, in this network namespace (ip address lists them)"
            ) from None
    return str(found)
