"""Stories of listeners and clients, as data: each can be replayed on Linux and on the model.

A story is lines of ``VERB NAME [ARGUMENT ...]``; segue.lab.verbs has the verbs.  Listeners, clients
and accepted connections have names; all listeners are at one address, with SO_REUSEPORT.  Lines
that begin with # say what the story is about, in two sentences.
"""

from __future__ import annotations

from segue.lab.carry_stories import CARRY_STORIES
from segue.lab.connection_stories import CONNECTION_STORIES
from segue.lab.handshake_stories import HANDSHAKE_STORIES
from segue.lab.loss_stories import LOSS_STORIES
from segue.lab.option_stories import OPTION_STORIES
from segue.lab.program_stories import PROGRAM_STORIES
from segue.lab.segment_stories import SEGMENT_STORIES
from segue.lab.window_stories import WINDOW_STORIES

STORIES: dict[str, str] = {
    "a queued child goes to a sibling": """
        # The handshake of c is over and its connection waits in A's queue when A is closed. It
        # goes to B with the byte it has received, and the client notices nothing.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        data c early
        listen B
        close A
        accept B x
        read x
        write x hello
        """,
    "without the switch a queued child is reset": """
        # tcp_migrate_req is off when A is closed. What waits in its queue is reset, though B
        # listens at the same address.
        listen A
        syn c
        ack c
        listen B
        close A
        accept B x
        ack c
        """,
    "alone, a queued child is reset and counted": """
        # Migration is on, but no other listener is in the group when A is closed. The child is
        # reset, and counted as a migration that failed.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        close A
        ack c
        """,
    "shutdown moves as close does": """
        # A is shut down instead of closed, with two children in its queue. Both go to B, oldest
        # first; A itself can accept nothing any more.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        syn d
        ack d
        listen B
        shutdown A
        accept A x
        accept B x
        accept B y
        accept B z
        """,
    "a child whose client has ended is read by the target": """
        # The client has sent data and its FIN before anybody accepted it. The child migrates all
        # the same, and B's program reads the data and then the end.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        data c xyz
        fin c
        listen B
        close A
        accept B x
        read x
        read x
        close x
        """,
    "a child whose client has reset is met by the target": """
        # The client resets while its connection waits in A's queue. The dead child stays in the
        # queue, migrates, and B's program meets the reset when it reads.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        rst c
        listen B
        close A
        accept B x
        read x
        """,
    "a handshake migrates at its final ACK": """
        # c's handshake is not over when A is closed: only a half-open request refers to A. It
        # does not move then, but when its final ACK arrives, and B gets the child.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        listen B
        close A
        ack c
        accept B x
        data c hello
        read x
        """,
    "without the switch a handshake is reset at its final ACK": """
        # c's handshake is not over when A is closed, and migration is off. Its final ACK finds a
        # request whose listener has no group, and is answered with a reset.
        listen A
        syn c
        listen B
        close A
        ack c
        accept B x
        """,
    "a switch turned off between is a loss": """
        # Migration is on when A is closed, and off when the final ACK comes. The switch is read
        # at both times, so the request is lost.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        listen B
        close A
        sysctl tcp_migrate_req 0
        ack c
        accept B x
        """,
    "a switch turned on between comes too late": """
        # Migration is off when A is closed, so A leaves its group at once. That it is on when the
        # final ACK comes does not help: there is no group to ask.
        listen A
        syn c
        listen B
        close A
        sysctl tcp_migrate_req 1
        ack c
        accept B x
        """,
    "a handshake migrates at the timer": """
        # c has not answered A's SYN-ACK when A is closed. A second after the SYN its timer fires:
        # the request moves to B, which sends the SYN-ACK again and gets the child when the ACK
        # comes.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        listen B
        close A
        wait 1.5
        ack c
        accept B x
        """,
    "without the switch the timer repeats nothing": """
        # Migration is off, A is closed, and c's timer fires. The request is dropped without a
        # word, so the ACK that comes later is reset.
        listen A
        syn c
        listen B
        close A
        wait 1.5
        ack c
        """,
    "a sibling that comes after the close gets nothing": """
        # B begins to listen only after A has stopped. A's group had no member then, so B is in
        # another group, and the handshake is lost.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        close A
        listen B
        ack c
        accept B x
        """,
    "a listener that listens again has its handshakes back": """
        # A is shut down and listens again, as a server does that pauses. Its half-open request
        # has referred to it all the time, and is finished there.
        listen A
        syn c
        shutdown A
        listen A
        ack c
        accept A x
        """,
    "handshakes respect the backlog of the target": """
        # Three handshakes were begun with A, and B's queue has room for two. The third ACK finds
        # B full: the request stays with A, and a later ACK tries again.
        sysctl tcp_migrate_req 1
        listen A 8
        syn c
        syn d
        syn e
        listen B 1
        close A
        ack c
        ack d
        ack e
        accept B x
        ack e
        accept B y
        accept B z
        """,
    "children do not respect the backlog of the target": """
        # Three children wait with A, and B's queue has room for one. All three go to B at once,
        # and a new SYN finds it full until two are accepted.
        sysctl tcp_migrate_req 1
        listen A 8
        syn c
        ack c
        syn d
        ack d
        syn e
        ack e
        listen B 0
        close A
        syn f
        accept B x
        accept B y
        accept B z
        """,
    "a reset where a handshake migrates leaves the target full": """
        # The client gives its handshake up after A was closed: the request was counted in at A
        # and is counted out at B. B now has -1 half-open requests, which looks like more than its
        # backlog, and drops every SYN: a defect of Linux.
        sysctl tcp_migrate_req 1
        sysctl tcp_syncookies 0
        listen A
        syn c
        listen B
        close A
        rst c
        syn d
        syn e
        """,
    "a reset where a handshake migrates leaves the target nothing but cookies": """
        # As before, but SYN cookies are allowed. B answers every SYN with a cookie from then on,
        # as in a flood that is none.
        sysctl tcp_migrate_req 1
        listen A
        syn c
        listen B
        close A
        rst c
        syn d
        wait 1.2
        syn e
        ack e
        accept B x
        """,
    "a SYN where a handshake migrates leaves the target full": """
        # A second SYN ends the handshake that would have migrated, and the request is counted out
        # at B instead of A. B drops every SYN from then on.
        sysctl tcp_migrate_req 1
        sysctl tcp_syncookies 0
        listen A
        syn c
        listen B
        close A
        syn c
        syn d
        """,
    "an overflow with a reset leaves the target full": """
        # With tcp_abort_on_overflow a full B resets what would migrate to it. The request is
        # counted out at B, which never had it, and B looks full even when its queue is empty.
        sysctl tcp_migrate_req 1
        sysctl tcp_syncookies 0
        sysctl tcp_abort_on_overflow 1
        listen A
        syn c
        listen B 0
        close A
        syn d
        ack d
        ack c
        accept B x
        accept B y
        syn f
        """,
    **HANDSHAKE_STORIES,
    **CONNECTION_STORIES,
    **SEGMENT_STORIES,
    **LOSS_STORIES,
    **WINDOW_STORIES,
    **OPTION_STORIES,
    **PROGRAM_STORIES,
    **CARRY_STORIES,
}


def lines(story: str) -> list[list[str]]:
    """The steps of a story, each as its words."""
    said = [line.split() for line in story.splitlines()]
    return [words for words in said if words and not words[0].startswith("#")]


def prose(story: str) -> str:
    """What a story says of itself: its lines that begin with #."""
    said = [line.strip() for line in story.splitlines()]
    return " ".join(line.lstrip("# ") for line in said if line.startswith("#"))


def compared_in(story: str) -> set[str]:
    """What of the acknowledgements is compared, though a receiver cannot rely on it."""
    return {word for verb, *words in lines(story) if verb == "compare" for word in words}


def free_in(story: str) -> set[str]:
    """The counters that depend on the kernel's hash."""
    return {words[0] for verb, *words in lines(story) if verb == "free"}
