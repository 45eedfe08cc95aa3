"""A network interface whose other end is a descriptor: what is routed into it is read here as IP
packets, and what is written here arrives as if from a wire (TUN, tun.rst in the kernel's docs).
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
import time

from segue.errors import KernelError
from segue.linux import netns
from segue.linux.closing import Closing

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000  # no four bytes before each packet
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFMTU = 0x8922
_SIOCSIFTXQLEN = 0x8943
_IFA_F_TENTATIVE = 0x40
_USABLE_WITHIN = 2.0  # seconds; it takes a millisecond
_LOOK_AGAIN = 0.001
_LONGEST = 65535  # an IP packet's

_ADVICE = {
    errno.ENOENT: "this kernel or container has no /dev/net/tun",
    errno.EPERM: "it needs CAP_NET_ADMIN in this network namespace",
    errno.EBUSY: "another process has an interface of that name",
}


class Tun(Closing):
    """A TUN interface in the network namespace it was made in; it goes when this is closed."""

    def __init__(self, name: str = "segue%d") -> None:
        """A ``%d`` in the name becomes the first free number.  Raises KernelError."""
        call = "open"
        self._fd = -1
        try:
            self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            call = "ioctl(TUNSETIFF)"
            request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
            answer = fcntl.ioctl(self._fd, _TUNSETIFF, request)
        except OSError as error:
            self.close()
            code = error.errno or 0
            doing = f"making interface {name}"
            raise KernelError(call, code, doing, _ADVICE.get(code, "")) from error
        self.name = answer[:16].partition(b"\0")[0].decode()

    def configure(self, address: str, *, mtu: int = 1500, queue: int = 500) -> None:
        """Give it an address such as 10.9.0.1/24 or fd09::1/64, and set it up; its network is then
        routed here, and the address usable.  Raises KernelError.

        So many packets as ``queue`` wait to be read; the kernel drops what is more.
        """
        interface = ipaddress.ip_interface(address)
        name = self.name.encode()
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as control:
            try:
                if isinstance(interface, ipaddress.IPv4Interface):
                    for option, value in (
                        (_SIOCSIFADDR, interface.ip),
                        (_SIOCSIFNETMASK, interface.netmask),
                    ):
                        request = struct.pack(
                            "16sHxx4s16x", name, socket.AF_INET, value.packed
                        )  # struct ifreq with a sockaddr_in
                        fcntl.ioctl(control, option, request)
                else:
                    index = socket.if_nametoindex(self.name)
                    request = struct.pack(
                        "=16sIi", interface.packed, interface.network.prefixlen, index
                    )  # struct in6_ifreq
                    fcntl.ioctl(control, _SIOCSIFADDR, request)
                for option, number in ((_SIOCSIFMTU, mtu), (_SIOCSIFTXQLEN, queue)):
                    fcntl.ioctl(control, option, struct.pack("16si20x", name, number))
            except OSError as error:
                code = error.errno or 0
                doing = f"giving {self.name} the address {address}"
                raise KernelError("ioctl", code, doing, _ADVICE.get(code, "")) from error
        netns.raise_interface(self.name)
        if interface.version == 6:
            self._wait_usable(interface.packed.hex())

    def _wait_usable(self, address: str) -> None:
        """Until then the kernel sends from another address: even on an interface on which nobody
        could have the same one, it is a worker of the kernel's that says so (addrconf_dad_work).
        """
        until = time.monotonic() + _USABLE_WITHIN
        while time.monotonic() < until:
            with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
                rows = [line.split() for line in file]
            if any(
                row[0] == address and row[5] == self.name and not int(row[4], 16) & _IFA_F_TENTATIVE
                for row in rows
            ):
                return
            time.sleep(_LOOK_AGAIN)
        doing = f"waiting for the IPv6 address of {self.name}"
        raise KernelError("ioctl", errno.ETIMEDOUT, doing)

    def read(self) -> bytes | None:
        """The next packet, whole; None when none waits.  Raises KernelError."""
        try:
            return os.read(self._fd, _LONGEST)
        except BlockingIOError:
            return None
        except OSError as error:
            raise KernelError("read", error.errno or 0, f"reading from {self.name}") from error

    def write(self, packet: bytes) -> None:
        """Let a packet arrive.  Raises KernelError: EINVAL when it is no IP packet."""
        try:
            os.write(self._fd, packet)
        except OSError as error:
            raise KernelError("write", error.errno or 0, f"writing to {self.name}") from error

    def fileno(self) -> int:
        """The descriptor, non-blocking; readable when a packet waits."""
        return self._fd

    def close(self) -> None:
        """Remove the interface; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
