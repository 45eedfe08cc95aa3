"""sd_notify(3) both ways: notifications from workers to us, and from us to systemd.

A notification is a datagram of KEY=VALUE lines.  Its sender is taken from SCM_CREDENTIALS, which
the kernel fills in.  So no worker can speak for another, and other users cannot keep us busy.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segue.errors import KernelError, UsageError
from segue.linux import openat, scm_rights
from segue.visible import visible

# Messages in one round of the loop, which has other work too.  A socket holds ten unread messages
# (net.unix.max_dgram_qlen), on some systems 512.
MOST_MESSAGES = 32
_CREDENTIALS = 12  # struct ucred: pid, uid, gid as 32-bit integers (unix(7))


@dataclass(frozen=True, slots=True)
class Message:
    """One notification and the process it came from."""

    pid: int
    values: dict[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """True for READY=1, by which the worker says that it can serve."""
        return self.values.get("READY") == "1"


class Inbox:
    """The NOTIFY_SOCKET of all workers; owns the descriptor and the file."""

    dropped = 0  # messages from users that are not trusted

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            # Workers may run as another user or become one, so each sender is checked.
            with openat.around(path) as (here, name):
                here.bind(self.socket, name, 0o666)
        except UsageError:
            self.socket.close()
            raise
        except OSError as error:
            self.socket.close()
            raise KernelError("bind", error.errno or 0, f"making the socket {path}") from error

    @classmethod
    def of(cls, bound: socket.socket, path: str) -> Inbox:
        """The inbox that a predecessor handed over."""
        made = cls.__new__(cls)
        made.path, made.socket = path, bound
        return made

    def fileno(self) -> int:
        """For the selector."""
        return self.socket.fileno()

    def receive(self, trusts: Callable[[int], bool]) -> list[Message]:
        """The waiting messages, at most MOST_MESSAGES, without those of untrusted users.

        Messages of untrusted users are dropped and counted before they cost more than the read.
        """
        messages: list[Message] = []
        for _ in range(MOST_MESSAGES):
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS))
            except BlockingIOError:
                break
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = int.from_bytes(content[:4], sys.byteorder)
                    uid = int.from_bytes(content[4:8], sys.byteorder)
                    if trusts(uid):
                        messages.append(parse(pid, data))
                    else:
                        self.dropped += 1
        return messages

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        openat.remove(self.path)


def parse(pid: int, data: bytes) -> Message:
    """Read one datagram.  Lines without ``=`` are left out, as systemd does."""
    lines = data.decode(errors="replace").splitlines()
    return Message(pid, dict(line.split("=", 1) for line in lines if "=" in line))


def tell(**values: str) -> bool:
    """Send KEY=VALUE lines to the service manager.  False if there is none or it does not listen.

    RELOADING=1 gets the MONOTONIC_USEC stamp that Type=notify-reload requires.
    """
    if values.get("RELOADING"):
        values["MONOTONIC_USEC"] = str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
    return _send(values)


def store(name: str, listener: socket.socket) -> bool:
    """Have the service manager keep this listener over our end, under a name; again is no error.

    The next start gets it by LISTEN_FDS.  False if there is no manager, or it does not listen.
    """
    # By default systemd forgets a descriptor when it is hung up, as a listener is in a cycle
    # between shutdown(2) and listen(2) (sd_notify(3), FDPOLL=0).
    return _send({"FDSTORE": "1", "FDNAME": name, "FDPOLL": "0"}, listener.fileno())


def forget(name: str) -> bool:
    """Have the service manager close all that it keeps under this name; False as for ``store``."""
    return _send({"FDSTOREREMOVE": "1", "FDNAME": name})


def _send(values: Mapping[str, str], *descriptors: int) -> bool:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    # A value of two lines would be two messages, and it may contain text of a worker.
    text = "\n".join(f"{key}={visible(value)}" for key, value in values.items())
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.connect(address)
            scm_rights.send(out, text.encode(), descriptors)
    except (OSError, KernelError):
        return False
    return True
