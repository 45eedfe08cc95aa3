"""Stories of listeners and clients, as data: each can be replayed on Linux and on the model.

A story is lines of ``VERB NAME [ARGUMENT ...]``.  Listeners, clients and accepted connections have
names; all listeners are at one address, with SO_REUSEPORT.
    ipv6                    before anything else: all of it is IPv6
    sysctl NAME VALUE       under net.ipv4
    listen L [BACKLOG]      a new listener, or one that was shut down, or a new backlog
    mtu NUMBER              before anything else: of the interface
    option L|X NAME VALUE   also of a listener to be, before its first ``listen``
    ask L|X NAME            what an option is
    info L|X                the main fields of TCP_INFO
    close L|X               shutdown L
    shutdown X read|write   one side of a connection
    program L POLICY [select]   for the group of L: by name (segue.lab.policies); ``select``
                            attaches it for new connections alone
    send L M                what leaves L is to go to M, where the policy is ``by_cookie``
    woken L                 whether who waits for its connections has been woken meanwhile
    accept L X              the oldest child, as X
    read X                  write X TEXT
    syn C [TEXT]            ack C          data C TEXT     fin C     rst C
    synfin C                rstack C       with two flags
    offer C [WORD ...]      before its ``syn``, which then has these options alone: ``mss=NUMBER``,
                            ``scale=NUMBER``, ``sack``, ``stamps``, and ``cookie``, the Fast Open
                            cookie that was given last (if none was, one is asked for), or
                            ``cookie=wrong``
    skip C NUMBER           its next segment is so far on, or, negative, back
    claim C NUMBER          its next segment acknowledges so much more than it has heard, or less
    window C NUMBER         what its next segments have in their window field; 500 before
    stamp C NUMBER          what the clock in its next segments says; 1000 before
    wait SECONDS
    free COUNTER            it is not compared: it depends on the kernel's hash, which has a secret
A TEXT of @NUMBER is so many bytes.
"""

from __future__ import annotations

from segue.lab.connection_stories import CONNECTION_STORIES
from segue.lab.handshake_stories import HANDSHAKE_STORIES
from segue.lab.option_stories import OPTION_STORIES
from segue.lab.program_stories import PROGRAM_STORIES
from segue.lab.segment_stories import SEGMENT_STORIES

STORIES: dict[str, str] = {
    "a queued child goes to a sibling": """
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
        listen A
        syn c
        ack c
        listen B
        close A
        accept B x
        ack c
        """,
    "alone, a queued child is reset and counted": """
        sysctl tcp_migrate_req 1
        listen A
        syn c
        ack c
        close A
        ack c
        """,
    "shutdown moves as close does": """
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
        listen A
        syn c
        listen B
        close A
        ack c
        accept B x
        """,
    "a switch turned off between is a loss": """
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
        listen A
        syn c
        listen B
        close A
        sysctl tcp_migrate_req 1
        ack c
        accept B x
        """,
    "a handshake migrates at the timer": """
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
        listen A
        syn c
        listen B
        close A
        wait 1.5
        ack c
        """,
    "a sibling that comes after the close gets nothing": """
        sysctl tcp_migrate_req 1
        listen A
        syn c
        close A
        listen B
        ack c
        accept B x
        """,
    "a listener that listens again has its handshakes back": """
        listen A
        syn c
        shutdown A
        listen A
        ack c
        accept A x
        """,
    "handshakes respect the backlog of the target": """
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
    **OPTION_STORIES,
    **PROGRAM_STORIES,
}


def lines(story: str) -> list[list[str]]:
    """The steps of a story, each as its words."""
    return [line.split() for line in story.splitlines() if line.strip()]
