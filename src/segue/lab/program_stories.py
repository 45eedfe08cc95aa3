"""Stories in which a program decides: the kernel's own tests of migration told here, and others.

The kernel's selftest (tools/testing/selftests/bpf/prog_tests/migrate_reuseport.c) has eight cases:
IPv4 and IPv6, each with children, Fast Open children before their final ACK, and half-open requests
at their final ACK and at their timer.
"""

from __future__ import annotations

# What each of the four does before the listener stops, and after it.
_CASES = {
    "children": (
        """
        listen A
        syn c
        ack c
        syn d
        ack d
        """,
        """
        accept B x
        accept C x
        accept C y
        accept C z
        data c hello
        read x
        """,
    ),
    "Fast Open children": (
        """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 256
        option B TCP_FASTOPEN 256
        option C TCP_FASTOPEN 256
        listen A
        syn c hello
        syn d world
        """,
        """
        ack c
        ack d
        accept B x
        accept C x
        read x
        accept C y
        read y
        """,
    ),
    "requests at the ACK": (
        """
        listen A
        syn c
        syn d
        """,
        """
        ack c
        ack d
        accept B x
        accept C x
        accept C y
        data d hello
        read y
        """,
    ),
    "requests at the timer": (
        """
        listen A
        syn c
        """,
        """
        wait 1.5
        ack c
        accept B x
        accept C x
        data c hello
        read x
        """,
    ),
}
_STOP = """
        listen B
        listen C
        program A by_cookie
        send A C
        shutdown A
"""


def _selftest() -> dict[str, str]:
    return {
        f"selftest: {case}, IPv{version}": ("ipv6" if version == 6 else "") + before + _STOP + after
        for version in (4, 6)
        for case, (before, after) in _CASES.items()
    }


def _posted_test() -> dict[str, str]:
    """Patch 8/8: who has connected and closed is accepted by the one listener that is left."""
    listeners, clients = "ABCDE", [f"c{number:02}" for number in range(25)]
    found = {}
    for version in (4, 6):
        for stop in ("close", "shutdown"):
            steps = ["ipv6"] if version == 6 else []
            steps += ["sysctl tcp_migrate_req 1", "free TCPMigrateReqSuccess"]
            steps += ["listen A 32", "program A by_cookie"]
            steps += [f"listen {one} 32" for one in listeners[1:]]
            # Its map has the last for each, itself included.
            steps += [f"send {one} E" for one in listeners]
            steps += [f"{verb} {one}" for one in clients for verb in ("syn", "ack", "fin")]
            steps += [f"{stop} {one}" for one in listeners[:-1]]
            steps += [f"accept E x{number:02}" for number in range(len(clients) + 1)]
            found[f"the series' own test, {stop}, IPv{version}"] = "\n".join(steps)
    return found


PROGRAM_STORIES: dict[str, str] = {
    **_selftest(),
    **_posted_test(),
    "a chain of programs: each goes to the next": """
        listen A
        syn c
        ack c
        syn d
        ack d
        listen B
        listen C
        listen D
        listen E
        program A by_cookie
        send A B
        send B C
        send C D
        send D E
        close A
        close B
        close C
        close D
        accept E x
        accept E y
        data c hello
        read x
        """,
    "who waits at the target is woken by a child": """
        listen A
        syn c
        ack c
        listen B
        listen C
        program A by_cookie
        send A C
        woken C
        close A
        woken B
        woken C
        woken C
        accept C x
        """,
    "who waits at the target is woken by a handshake": """
        listen A
        syn c
        listen B
        listen C
        program A by_cookie
        send A C
        close A
        woken C
        ack c
        woken B
        woken C
        accept C x
        """,
    "a handshake moves twice": """
        listen A
        syn c
        listen B
        listen C
        program A by_cookie
        send A B
        send B C
        close A
        wait 1.5
        close B
        ack c
        accept C x
        """,
    "a program cancels what is queued": """
        listen A
        syn c
        ack c
        listen B
        program A never_migrate
        close A
        accept B x
        data c hello
        """,
    "a program cancels a handshake at its ACK": """
        listen A
        syn c
        listen B
        program A never_migrate
        close A
        ack c
        accept B x
        """,
    "a program cancels a handshake at its timer": """
        listen A
        syn c
        listen B
        program A never_migrate
        close A
        wait 1.5
        ack c
        accept B x
        """,
    "a program moves handshakes and cancels children": """
        listen A
        syn c
        ack c
        syn d
        listen B
        program A cancel_when_different
        close A
        ack d
        accept B x
        accept B y
        """,
    "a program refuses what is new": """
        listen A
        program A nobody_new
        syn c
        ack c
        """,
    "a program for selection alone is not asked": """
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        syn d
        listen B
        program A never_migrate select
        close A
        ack d
        accept B x
        accept B y
        """,
    "a program for selection alone is no switch": """
        listen A
        syn c
        ack c
        listen B
        program A by_cookie select
        close A
        accept B x
        """,
    "a program lets a reset have its handshake": """
        sysctl tcp_syncookies 0
        listen A
        syn c
        listen B
        program A by_cookie
        send A B
        close A
        rst c
        syn d
        ack d
        accept B x
        """,
    "what a program sends to nobody goes by the hash": """
        listen A
        program A gone
        syn c
        ack c
        listen B
        close A
        accept B x
        """,
    "what a program sends to one that has stopped goes by the hash": """
        listen A
        syn c
        ack c
        listen B
        listen C
        program A by_cookie
        send A B
        close B
        close A
        accept C x
        """,
    "a listener that listens again, alone, has no program": """
        listen A
        program A nobody_new
        syn c
        shutdown A
        listen A
        syn c
        ack c
        accept A x
        """,
}
