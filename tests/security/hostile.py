"""A worker that serves, and from its second generation on does something to the whole group.

The argument says what: ``attach`` a program that sends everything to the group's member 1, that is
to itself, or ``detach`` the one that is there; ``once`` for each time that the file GO is touched,
or ``again`` and again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
import threading

_SO_ATTACH_REUSEPORT_CBPF, _SO_DETACH_REUSEPORT_BPF = 51, 68


def attack(listener: socket.socket, what: str) -> str:
    """One attempt; what the kernel said."""
    try:
        if what == "attach":
            code = ctypes.create_string_buffer(b"\x06\0\0\0" + (1).to_bytes(4, sys.byteorder), 8)
            program = bytes(ctypes.c_uint64(1)) + bytes(ctypes.c_uint64(ctypes.addressof(code)))
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
        else:
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        return f"{what}: {os.strerror(error.errno or 0)}"
    return f"{what}: done"


def main(what: str, often: str) -> None:
    """Tell each client which generation this is."""
    listener = socket.socket(fileno=3)
    generation = os.environ["SEGUE_GENERATION"]

    def loop() -> None:
        seen = 0
        while True:
            with contextlib.suppress(FileNotFoundError):
                now = os.stat(os.environ["GO"]).st_mtime_ns
                if now != seen or often == "again":
                    done = attack(listener, what)
                    if not seen:
                        print("hostile", done, flush=True)
                    seen = now
            threading.Event().wait(0.0001 if often == "again" else 0.01)

    if generation != "1":
        threading.Thread(target=loop, daemon=True).start()
    while True:
        with listener.accept()[0] as child:
            child.sendall(generation.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
