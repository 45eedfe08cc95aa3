"""A worker that prints, as one line of JSON, who it is and what it has, and then serves."""

from __future__ import annotations

import ctypes
import json
import os
import socket

_libc = ctypes.CDLL(None)


def confession() -> dict[str, object]:
    """Ids, groups, capability sets, descriptors, and whether root can be had."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    links = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            links[entry] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue  # of the listing
    found: dict[str, object] = {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "no_new_privs": int(status["NoNewPrivs"]),
        "fds": links,
        **{name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")},
    }
    found["root"] = False
    if os.getuid():
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            found["root"] = True
    return found


def main() -> None:
    """Serve nobody for long: each connection is accepted and closed."""
    told = json.dumps(confession())
    if "LISTEN_FDS" in os.environ:
        listener = socket.socket(fileno=3)
    else:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", int(os.environ["PORT"])))
        listener.listen(64)
    print("confession", told, flush=True)
    while True:
        listener.accept()[0].close()


if __name__ == "__main__":
    main()
