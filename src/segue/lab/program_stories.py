"""Stories in which a program decides: the kernel's own tests of migration told here, and others.

The kernel's selftest (tools/testing/selftests/bpf/prog_tests/migrate_reuseport.c) has eight cases:
IPv4 and IPv6, each with children, Fast Open children before their final ACK, and half-open requests
at their final ACK and at their timer.
"""

from __future__ import annotations

_PROSE = {
    "children": (
        "The kernel's selftest: two children wait in A, and the program sends what leaves A to C."
        " B gets nothing, and C accepts both."
    ),
    "Fast Open children": (
        "The kernel's selftest: two Fast Open children wait in A before their final ACK."
        " C accepts both with the data of their SYNs."
    ),
    "requests at the ACK": (
        "The kernel's selftest: two half-open requests refer to A when it stops."
        " Each moves to C when its final ACK arrives."
    ),
    "requests at the timer": (
        "The kernel's selftest: a half-open request refers to A when it stops."
        " Its timer moves it to C, which sends the SYN-ACK again and gets the child."
    ),
}

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


_POSTED = (
    "Patch 8/8: 25 clients connect and end at once, spread over five listeners, and the first four"
    " stop. The program sends all of them to the fifth, which accepts 25."
)


def _selftest() -> dict[str, str]:
    return {
        f"selftest: {case}, IPv{version}": "\n".join(
            (f"# {_PROSE[case]}", "ipv6" if version == 6 else "", before, _STOP, after)
        )
        for version in (4, 6)
        for case, (before, after) in _CASES.items()
    }


def _posted_test() -> dict[str, str]:
    """Patch 8/8: who has connected and closed is accepted by the one listener that is left."""
    listeners, clients = "ABCDE", [f"c{number:02}" for number in range(25)]
    found = {}
    for version in (4, 6):
        for stop in ("close", "shutdown"):
            steps = [f"# {_POSTED}", *(["ipv6"] if version == 6 else [])]
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
        # A program sends what leaves A to B, what leaves B to C, and so on. Two children move
        # four times and are accepted by E.
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
        # A program sends A's child to C. Who waits for connections at C is woken, and who waits
        # at B is not.
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
        # Nothing moves at the close, so nobody is woken. When the final ACK comes the child is
        # C's, and who waits there is woken.
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
        # The timer moves the request from A to B. B is closed too, so the final ACK moves it on
        # to C.
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
        # The program answers SK_DROP when asked where A's child is to go. The child is reset,
        # though B listens.
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
        # The program answers SK_DROP when the final ACK comes. The request is dropped, and the
        # client reset.
        listen A
        syn c
        listen B
        program A never_migrate
        close A
        ack c
        accept B x
        """,
    "a program cancels a handshake at its timer": """
        # The program answers SK_DROP when the timer fires. The request is dropped without a word.
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
        # The program sees in which state each is: it cancels what is queued and moves what is
        # half-open. B gets only the handshake.
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
        # The program answers SK_DROP for a SYN. The client is reset, as where nobody listens.
        listen A
        program A nobody_new
        syn c
        ack c
        """,
    "a program for selection alone is not asked": """
        # The program was attached for new connections only. What migrates goes by the kernel's
        # hash, as the switch is on.
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
        # A program attached as SELECT_OR_MIGRATE switches migration on; this one was not. The
        # switch is off, so the child is reset.
        listen A
        syn c
        ack c
        listen B
        program A by_cookie select
        close A
        accept B x
        """,
    "a program lets a reset have its handshake": """
        # Segue's programs cancel the migration of what is reset. So the request is counted out at
        # A, where it was counted in, and B takes the next SYN.
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
        # The program selects a listener that is not there. SK_PASS without a selection means that
        # the hash decides.
        listen A
        program A gone
        syn c
        ack c
        listen B
        close A
        accept B x
        """,
    "what a program sends to one that has stopped goes by the hash": """
        # The program selects B, which was closed before A. The hash chooses among those that
        # listen.
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
        # A was the only member, so listening again begins a new group. The program that refused
        # everything is gone with the old one.
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
