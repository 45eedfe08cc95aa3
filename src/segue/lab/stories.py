"""Stories of listeners and clients, as data: each can be told to Linux and to the model.

A story is lines of ``VERB NAME [ARGUMENT ...]``.  Listeners, clients and accepted connections have
names; all listeners are at one address, with SO_REUSEPORT.
    ipv6                    before anything else: all of it is IPv6
    sysctl NAME VALUE       under net.ipv4
    listen L [BACKLOG]      a new listener, or one that was shut down, or a new backlog
    option L NAME VALUE     of a listener to be: before its first ``listen``
    close L|X               shutdown L
    program L POLICY [select]   for the group of L: by name (segue.lab.policies); ``select``
                            attaches it for new connections alone
    send L M                what leaves L is to go to M, where the policy is ``by_cookie``
    woken L                 whether who waits for its connections has been woken meanwhile
    accept L X              the oldest child, as X
    read X                  write X TEXT
    syn C [TEXT]            ack C          data C TEXT     fin C     rst C
    skip C NUMBER           its next segment is so far on, or, negative, back
    wait SECONDS
"""

from __future__ import annotations

from segue.lab.program_stories import PROGRAM_STORIES

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
    "cookies save a handshake": """
        sysctl tcp_syncookies 2
        listen A
        syn c
        listen B
        close A
        ack c
        accept B x
        data c hello
        read x
        """,
    "a cookie is nothing to a new group": """
        sysctl tcp_syncookies 2
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
    "overflow with a reset": """
        sysctl tcp_migrate_req 1
        sysctl tcp_abort_on_overflow 1
        listen A 8
        syn c
        syn d
        listen B 0
        close A
        ack c
        ack d
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
    "a Fast Open child migrates before its final ACK": """
        sysctl tcp_migrate_req 1
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        option B TCP_FASTOPEN 4
        listen A
        syn c hello
        listen B
        close A
        accept B x
        read x
        ack c
        data c more
        read x
        """,
    "without the switch a Fast Open child is reset": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        listen A
        syn c hello
        listen B
        close A
        ack c
        """,
    "a deferred handshake is finished by its target": """
        sysctl tcp_migrate_req 1
        option A TCP_DEFER_ACCEPT 5
        listen A
        syn c
        ack c
        accept A x
        listen B
        close A
        ack c
        accept B x
        """,
    "the server ends first": """
        listen A
        syn c
        ack c
        accept A x
        write x bye
        close x
        ack c
        fin c
        ack c
        """,
    "the client ends first": """
        listen A
        syn c
        ack c
        accept A x
        data c bye
        fin c
        read x
        read x
        close x
        ack c
        """,
    "closing over unread data resets": """
        listen A
        syn c
        ack c
        data c unread
        accept A x
        close x
        """,
    "data out of order is told by its gaps": """
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c cc
        read x
        skip c 2
        data c ee
        skip c -10
        data c aaaa
        read x
        data c ccdd
        read x
        """,
    "data that comes again is told": """
        listen A
        syn c
        ack c
        accept A x
        data c hello
        skip c -5
        data c hello
        read x
        """,
    "only the exact reset is believed": """
        listen A
        syn c
        ack c
        accept A x
        skip c 10
        rst c
        skip c -200
        rst c
        skip c 190
        rst c
        read x
        """,
    "a reset or a SYN in a handshake": """
        listen A
        syn c
        rst c
        ack c
        syn d
        skip d 5
        syn d
        ack d
        """,
    "a SYN that comes again": """
        listen A
        syn c
        skip c -1
        syn c
        ack c
        accept A x
        """,
    "a SYN in a connection is asked about": """
        listen A
        syn c
        ack c
        accept A x
        syn c
        skip c -1
        data c still
        read x
        """,
    "a final ACK of something else is reset": """
        listen A
        syn c
        skip c 70000
        ack c
        skip c -70000
        ack c
        accept A x
        """,
    "what nobody acknowledges is sent again": """
        listen A
        syn c
        ack c
        accept A x
        write x hello
        wait 0.3
        ack c
        """,
    "a FIN before its turn waits": """
        listen A
        syn c
        ack c
        accept A x
        skip c 3
        fin c
        skip c -4
        data c abc
        read x
        read x
        close x
        """,
    "data for an orphan is reset": """
        listen A
        syn c
        ack c
        accept A x
        close x
        ack c
        data c late
        """,
    "after TIME_WAIT begins": """
        listen A
        syn c
        ack c
        accept A x
        close x
        fin c
        skip c -1
        fin c
        skip c 100000
        syn c
        """,
    "both ends close at once": """
        listen A
        syn c
        ack c
        accept A x
        close x
        skip c 0
        fin c
        ack c
        """,
    "a handshake with data in its final ACK": """
        sysctl tcp_migrate_req 1
        listen A
        syn c
        listen B
        close A
        data c hello
        accept B x
        read x
        """,
    "a request is forgotten when its listener said so too often": """
        sysctl tcp_synack_retries 1
        listen A
        syn c
        wait 1.5
        wait 2.0
        ack c
        """,
    "one request more than the backlog is kept, the next gets a cookie": """
        listen A 1
        syn c
        syn d
        syn e
        rst c
        rst d
        rst e
        ack c
        ack d
        ack e
        accept A x
        """,
    "what comes after a FIN is dropped": """
        listen A
        syn c
        ack c
        fin c
        accept A x
        fin c
        data c hello
        skip c -6
        fin c
        """,
    "only the exact reset ends a handshake": """
        listen A
        syn c
        skip c 5
        rst c
        rst c
        skip c -5
        ack c
        accept A x
        """,
    "a FIN out of its window is always answered": """
        listen A
        syn c
        skip c -1
        fin c
        fin c
        skip c -2
        fin c
        """,
    "an early FIN is told as a byte, and so is a second one": """
        listen A
        syn c
        skip c 1
        fin c
        skip c 5
        fin c
        """,
    "what was held already is told as a repetition": """
        listen A
        syn c
        skip c 1
        data c hello
        skip c -5
        data c x
        skip c -2
        data c y
        accept A x
        read x
        """,
    "an early FIN and what comes after it are told as one range": """
        listen A
        syn c
        skip c 5
        data c x
        fin c
        fin c
        """,
    "a FIN that comes again is told as a repetition": """
        listen A
        syn c
        fin c
        skip c -1
        fin c
        """,
    "an early FIN for a closed socket is reset": """
        listen A
        syn c
        skip c 1
        fin c
        accept A x
        close x
        fin c
        """,
    "of what waits for its ACK the last is sent again first": """
        listen A
        syn c
        ack c
        accept A x
        write x bye
        close x
        wait 1.2
        """,
    "who reads after the FIN meets no reset": """
        listen A
        syn c
        fin c
        rst c
        accept A x
        read x
        write x bye
        write x bye
        read x
        """,
    "a Fast Open child's handshake has a window of its own": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        skip c -1
        fin c
        skip c -2
        data c y
        ack c
        accept A x
        read x
        """,
    "an accepted Fast Open child writes before the handshake is over": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn d early
        accept A x
        write x bye
        wait 1.2
        """,
    "a FIN with a cookie that is off by one is acknowledged at once": """
        ipv6
        sysctl tcp_syncookies 2
        listen A 1
        syn c
        skip c -1
        fin c
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
    "what is sent after a cookie is sent again as soon as after a handshake": """
        sysctl tcp_syncookies 2
        listen A
        syn c
        ack c
        accept A x
        write x bye
        wait 1.2
        """,
    "a Fast Open child that its program has reset leaves its slot": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        close x
        syn d early
        """,
    "a Fast Open child's handshake is a round trip": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        fin c
        accept A x
        write x bye
        wait 0.3
        """,
    "who asks about the tail takes what was held back along": """
        listen A
        syn c
        ack c
        accept A x
        write x bye
        write x bye
        wait 1.2
        """,
    "after a timeout a FIN waits for an ACK": """
        listen A
        syn c
        ack c
        accept A x
        write x bye
        wait 1.2
        close x
        ack c
        """,
    "what acknowledges the FIN of an orphan is looked at no further": """
        listen A
        syn c
        ack c
        skip c -1
        accept A x
        close x
        data c x
        """,
    "a segment for nobody is reset": """
        listen A
        ack c
        rst c
        syn d
        rst d
        ack d
        """,
    **PROGRAM_STORIES,
}


def lines(story: str) -> list[list[str]]:
    """The steps of a story, each as its words."""
    return [line.split() for line in story.splitlines() if line.strip()]
