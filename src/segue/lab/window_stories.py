"""Stories of what a listening side takes: its window, its memory, and when it acknowledges."""

from __future__ import annotations

WINDOW_STORIES: dict[str, str] = {
    # The window.
    "the window grows with full segments": """
        # It begins with a share of half of the memory, and the first full segment tells a better
        # one. Each lets it grow by two, until the memory that is left is less.
        compare acks windows
        listen A
        syn c
        ack c
        accept A x
        data c @1448
        data c @1448
        data c @1448
        read x
        data c @1448
        data c @1448
        data c @1448
        data c @1448
        data c @1448
        data c @1448
        read x
        data c @1448
        """,
    "segments of half the size let the window grow less": """
        # Each takes as much memory as a full one, and of what came that is a poor share. What they
        # let it grow by is two of their own size, while the window is a small part of the memory.
        compare acks windows
        listen A
        syn c
        ack c
        accept A x
        data c @700
        data c @700
        data c @700
        read x
        data c @700
        data c @1448
        data c @700
        data c @700
        """,
    "a buffer that was set bounds the window": """
        # SO_RCVBUF is doubled. The window is the share of it that full segments have.
        compare acks windows
        option A SO_RCVBUF 10000
        listen A
        offer c mss=1460 sack
        syn c
        ack c
        accept A x
        data c @1460
        data c @500
        data c @500
        read x
        data c @1460
        read x
        ask x SO_RCVBUF
        """,
    "a window without a scale is of whole segments": """
        # It stays where it is as long as it is within a segment of what is free. Then it is rounded
        # down to whole segments of the peer's size.
        compare acks windows
        option A SO_RCVBUF 20000
        listen A
        offer c mss=1460
        syn c
        window c 60000
        ack c
        accept A x
        data c @1460
        data c @1460
        data c @1460
        read x
        data c @1460
        """,
    "packets of 9000 bytes are in pages": """
        # What is beyond the first page of a packet takes whole pages. So three of them take more
        # than a third of the memory.
        compare acks windows
        mtu 9000
        listen A
        offer c mss=8960 scale=7 sack stamps
        syn c
        ack c
        accept A x
        data c @8948
        data c @8948
        data c @8948
        read x
        data c @4000
        """,
    "a reader that keeps up is given more memory": """
        # What it reads within a round trip is more than was thought. A buffer has room for twice of
        # it, and for more if it becomes more.
        compare windows
        listen A
        syn c
        wait 0.5
        window c 60000
        ack c
        accept A x
        wait 0.5
        pour c @28960 1448
        read x
        pour c @28960 1448
        read x
        wait 1.5
        data c a
        read x
        ask x SO_RCVBUF
        """,
    "a buffer that was set does not grow": """
        # The program reads as fast as before. But SO_RCVBUF was set, and that is what it has.
        compare windows
        option A SO_RCVBUF 60000
        listen A
        syn c
        wait 0.5
        window c 60000
        ack c
        accept A x
        wait 0.5
        pour c @20272 1448
        read x
        pour c @20272 1448
        read x
        wait 1.5
        data c a
        read x
        ask x SO_RCVBUF
        """,
    "a buffer does not grow where that is switched off": """
        # The program reads as fast as before. Without tcp_moderate_rcvbuf that changes nothing.
        sysctl tcp_moderate_rcvbuf 0
        listen A
        syn c
        wait 0.5
        window c 60000
        ack c
        accept A x
        wait 0.5
        pour c @28960 1448
        read x
        pour c @28960 1448
        read x
        wait 1.5
        data c a
        read x
        ask x SO_RCVBUF
        """,
    "a connection's own buffer is set": """
        # The program sets SO_RCVBUF of its connection. The window shuts where the memory is less,
        # but no further than was promised.
        compare acks windows
        listen A
        syn c
        ack c
        accept A x
        data c @1448
        option x SO_RCVBUF 3000
        ask x SO_RCVBUF
        data c @1448
        data c @1448
        read x
        data c @1448
        option x SO_RCVBUF 100000
        data c @1448
        read x
        data c @1448
        ask x SO_RCVBUF
        """,
    "a connection's buffer is set before anything comes": """
        # The program sets SO_RCVBUF at once. The first window stays promised all the same.
        compare acks windows
        listen A
        syn c
        ack c
        accept A x
        option x SO_RCVBUF 3000
        write x hello
        data c @1448
        read x
        data c @1448
        read x
        """,
    "small segments take memory beyond the limit": """
        # The window is of data, and small segments take four times as much memory. What was
        # promised is taken: the limit follows.
        listen A
        syn c
        ack c
        accept A x
        pour c @20000 300
        pour c @20000 300
        ask x SO_RCVBUF
        pour c @20000 300
        ask x SO_RCVBUF
        read x
        ask x SO_RCVBUF
        """,
    "small segments are put together where the limit was set": """
        # SO_RCVBUF does not follow what small segments take. The window begins anew with two
        # segments.
        compare windows
        option A SO_RCVBUF 50000
        listen A
        syn c
        ack c
        accept A x
        pour c @20000 300
        pour c @20000 300
        wait 0.3
        write x hello
        ask x SO_RCVBUF
        """,
    "a read opens a window that was shut": """
        # Nobody reads, and the window shuts before the memory is full. A read that frees half of
        # it is told.
        compare acks windows
        option A SO_RCVBUF 4000
        listen A
        offer c mss=1460
        syn c
        window c 60000
        ack c
        accept A x
        data c @1460
        data c @1460
        data c @1460
        read x
        data c @1460
        read x
        """,
    "a segment past the window is taken whole where all was read": """
        # Nothing waits, and the segment has more than the window. Nothing of it is cut off.
        compare acks windows
        option A SO_RCVBUF 1000
        listen A
        syn c
        ack c
        accept A x
        data c @1448
        data c @100
        read x
        data c @100
        """,
    "a segment past the window is refused where something waits": """
        # The answer says what is expected, as to all that is out of the window. What the segment
        # acknowledges is not looked at.
        compare acks windows
        option A SO_RCVBUF 1000
        listen A
        syn c
        ack c
        accept A x
        write x hello
        data c @600
        write x again
        data c @1448
        info x
        read x
        skip c -1448
        ack c
        info x
        """,
    "a Fast Open child offers a whole window after its data": """
        # The SYN-ACK offers the first window. What came with the SYN takes nothing of it.
        compare windows
        sysctl tcp_fastopen 514
        option A TCP_FASTOPEN 16
        listen A
        offer c mss=1460 scale=7 sack stamps cookie
        syn c @1000
        accept A x
        ack c
        write x hello
        read x
        ack c
        write x hello
        """,
    # Acknowledgements.
    "a read acknowledges what was small": """
        # When the segments that are acknowledged at once are over, an ACK is delayed. A read that
        # takes all, up to something small, says it.
        compare acks
        option A SO_RCVBUF 4000
        listen A
        offer c mss=1460
        syn c
        window c 60000
        ack c
        accept A x
        data c @300
        read x
        data c @300
        read x
        data c @300
        read x
        data c @300
        read x
        data c @300
        read x
        """,
    "who answers is given time to answer": """
        # The program has answered. From then on an ACK waits for the next answer, and so long that
        # it comes in time.
        compare acks
        listen A
        syn c
        ack c
        accept A x
        data c @300
        read x
        write x hello
        data c @300
        read x
        write x hello
        data c @300
        wait 0.3
        data c @300
        """,
    "each second segment is acknowledged at once": """
        # The program answers, and its answer could take the ACK along. Of two full segments the ACK
        # goes at once all the same.
        compare acks
        listen A
        syn c
        ack c
        accept A x
        data c @1448
        read x
        write x hello
        pour c @2896 1448
        read x
        write x hello
        pour c @2896 1448
        """,
    "what comes again is acknowledged at once, and what follows": """
        # The program answers, and ACKs wait for it. But something comes again: the peer may have
        # lost an ACK, so that none is delayed for a while.
        compare acks
        listen A
        syn c
        ack c
        accept A x
        data c @300
        read x
        write x hello
        skip c -300
        data c @300
        data c @300
        data c @300
        """,
}
