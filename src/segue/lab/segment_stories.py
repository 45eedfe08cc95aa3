"""Stories of segments: windows, sizes, what is said of gaps, stamps, and doubtful numbers."""

from __future__ import annotations

SEGMENT_STORIES: dict[str, str] = {
    # What the peer's window allows.
    "a window smaller than what waits is probed with what fits": """
        # The client has room for five bytes scaled, less than what the program wrote. When the
        # probe is due, it carries what fits.
        listen A
        syn c
        ack c
        accept A x
        window c 5
        data c ab
        read x
        write x @1000
        wait 0.5
        ack c
        wait 1.0
        window c 500
        ack c
        ack c
        """,
    "a window that shrinks is filled by a probe": """
        # The window becomes smaller than what waits. Nothing is cut to fit it at first; the probe
        # fills it when its time comes.
        listen A
        offer c mss=1460
        syn c
        window c 2000
        ack c
        accept A x
        write x @1400
        window c 600
        ack c
        write x @1000
        wait 0.3
        ack c
        wait 0.3
        window c 2000
        ack c
        """,
    "a segment takes half of the largest window at most": """
        # The client never offered a large window. A segment takes half of the largest at most, so
        # that the next can follow before the ACK.
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        window c 20
        ack c
        accept A x
        write x @4000
        ack c
        ack c
        wait 0.6
        ack c
        """,
    "a shut window is asked about as long as somebody answers": """
        # The client's window is shut, and it answers every question. tcp_retries2 counts only
        # questions without an answer, so the connection stays (RFC 1122, 4.2.2.17).
        sysctl tcp_retries2 2
        listen A
        syn c
        ack c
        accept A x
        window c 0
        ack c
        write x hello
        wait 0.35
        ack c
        wait 0.7
        ack c
        wait 1.4
        ack c
        wait 1.4
        ack c
        wait 1.4
        ack c
        window c 500
        ack c
        read x
        """,
    "a shut window about which nobody answers ends it": """
        # The client's window is shut, and it answers nothing. After tcp_retries2 questions the
        # connection ends with ETIMEDOUT.
        sysctl tcp_retries2 2
        listen A
        syn c
        ack c
        accept A x
        window c 0
        ack c
        write x hello
        wait 4.5
        read x
        """,
    "a smaller window in the first data is not believed": """
        # The final ACK has told a window, and the first data with the same number tells a smaller
        # one. The first counts.
        listen A
        syn c
        ack c
        window c 1
        data c hi
        accept A x
        read x
        write x @1000
        ack c
        """,
    "the first window of a Fast Open child is that of its final ACK": """
        # The SYN's window is not scaled, the final ACK's is. What may be sent follows the ACK's.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 5
        listen A
        syn c hello
        accept A x
        window c 10
        ack c
        data c more
        window c 5
        data c less
        read x
        write x @1000
        ack c
        """,
    # Small segments.
    "the end of a write goes at once": """
        # A small rest follows full segments of the same write. It waits for no ACK, since only a
        # small one before it would hold it (Minshall).
        listen A
        offer c mss=1000
        syn c
        window c 5000
        ack c
        accept A x
        write x @1500
        ack c
        write x @2500
        write x ab
        write x cd
        ack c
        ack c
        """,
    "a small write waits for a small one": """
        # Nagle's rule: a small segment is in flight, so the next small one waits for its ACK.
        # What fills a segment does not wait.
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        ack c
        accept A x
        write x ab
        write x cd
        write x @2000
        ack c
        ack c
        ack c
        """,
    "reading much tells the peer nothing": """
        # The program reads three segments at once. The client already believes that more than
        # half of the window is free, so nothing is sent.
        listen A
        syn c
        ack c
        data c @1448
        data c @1448
        data c @1448
        accept A x
        wait 0.2
        read x
        read x
        """,
    # Gaps.
    "segments make room for SACK ranges": """
        # The answer has to name three ranges, which take 28 bytes of options. The data in it is
        # cut by so much.
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c cc
        skip c 2
        data c ee
        skip c 2
        data c gg
        write x @1448
        ack c
        ack c
        """,
    "ranges are told by recency": """
        # Five pieces arrive with gaps between. The range that arrived or grew last is named
        # first.
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c cc
        skip c 2
        data c ee
        skip c 2
        data c gg
        skip c 2
        data c ii
        skip c 2
        data c kk
        skip c -16
        data c ff
        skip c -4
        data c dd
        """,
    "of five ranges the oldest is forgotten": """
        # A receiver remembers four ranges. The fifth drops the oldest, which the answer does not
        # name any more.
        listen A
        offer c mss=1460 sack
        syn c
        ack c
        accept A x
        skip c 4
        data c cc
        skip c 2
        data c ee
        skip c 2
        data c gg
        skip c 2
        data c ii
        skip c 2
        data c kk
        skip c -22
        data c xxxx
        """,
    "of new data the part that was known is told": """
        # A segment begins with what was received and goes on with news. The answer names the
        # known part as a repetition.
        listen A
        syn c
        ack c
        accept A x
        data c hello
        skip c -3
        data c llo_world
        read x
        """,
    "what fills a gap and more is told": """
        # A segment fills the gap and overlaps what was held behind it. The overlap is named as a
        # repetition.
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c cccc
        skip c -8
        data c bbbbbb
        read x
        read x
        """,
    "of what fills two gaps the first is told": """
        # One segment fills two gaps. The overlap with the first range is named as a repetition,
        # and the second is not.
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c bb
        skip c 2
        data c dd
        skip c -10
        data c aaaabbccdd
        read x
        """,
    "data that may go takes the ranges along": """
        # An early piece arrives with an ACK that frees data. The data that goes out names the
        # range, so that no ACK by itself is needed.
        listen A
        offer c mss=1000 sack
        syn c
        ack c
        accept A x
        write x ab
        write x cd
        skip c 4
        data c ee
        ack c
        """,
    # Sides that are shut.
    "a connection whose read side is shut still reads": """
        # shutdown(SHUT_RD) tells the client nothing. What it sends is acknowledged, and read()
        # gives it.
        listen A
        syn c
        ack c
        accept A x
        shutdown x read
        read x
        data c hello
        read x
        read x
        write x bye
        fin c
        read x
        """,
    "where both sides are shut data is reset": """
        # Both sides are shut down, so nobody can read or answer. Data that comes then is reset.
        listen A
        syn c
        ack c
        accept A x
        shutdown x read
        shutdown x write
        ack c
        data c hello
        write x oops
        """,
    "what goes past the FIN is reset": """
        # After its FIN the client sends old data that goes past that FIN. That cannot be right,
        # so it is reset.
        listen A
        syn c
        ack c
        accept A x
        data c hello
        fin c
        skip c -4
        data c lotsandlots
        read x
        read x
        write x oops
        """,
    # The round trip.
    "where no round trip was measured the timeout is three seconds": """
        # The SYN-ACK was repeated, so its ACK measures nothing. The timeout begins at three
        # seconds and not at one.
        listen A
        offer c mss=1460
        syn c
        wait 1.2
        ack c
        accept A x
        write x hello
        wait 1.3
        wait 2.0
        ack c
        """,
    "a stamp tells the round trip of a repeated SYN-ACK": """
        # The SYN-ACK was repeated, but the stamp that comes back tells which one was answered. So
        # the round trip is known.
        listen A
        syn c
        wait 1.2
        ack c
        accept A x
        write x hello
        wait 1.0
        ack c
        """,
    "a cookie without stamps tells no round trip": """
        # A cookie keeps no time, and this client sends no stamps. The timeout begins at three
        # seconds.
        sysctl tcp_syncookies 2
        listen A
        offer c mss=1460
        syn c
        ack c
        accept A x
        write x hello
        wait 1.3
        wait 2.0
        ack c
        """,
    # Stamps.
    "a stamp one older is not remembered": """
        # A stamp that is older by a tick is let pass. It is not echoed: the newer one is.
        listen A
        syn c
        stamp c 1010
        ack c
        accept A x
        data c ab
        read x
        write x one
        ack c
        stamp c 1009
        data c cd
        read x
        write x two
        ack c
        """,
    "the stamp of what is refused is not remembered": """
        # The segment acknowledges what was never sent, so it is refused. Its stamp is not echoed
        # either.
        listen A
        syn c
        ack c
        accept A x
        stamp c 1020
        claim c 100
        data c ef
        read x
        write x three
        """,
    "old ACKs with old stamps get no answer": """
        # An ACK with an older stamp that says nothing new may just be late. It is neither news
        # nor a question, so nothing is sent.
        listen A
        syn c
        stamp c 1010
        ack c
        accept A x
        data c hello
        stamp c 1005
        skip c -3
        ack c
        skip c 3
        ack c
        stamp c 10
        ack c
        wait 0.6
        skip c 10
        ack c
        """,
    "a SYN with an old stamp is asked about": """
        # A SYN comes for a connection, with a stale stamp. It is answered with an ACK that says
        # what is expected.
        listen A
        syn c
        stamp c 1010
        ack c
        accept A x
        stamp c 10
        syn c
        """,
    "an exact reset with a stale stamp ends no handshake": """
        # The number of the reset is right, but its stamp is older than the SYN's. It is dropped,
        # and the handshake is finished.
        listen A
        syn c
        stamp c 990
        rst c
        stamp c 1000
        ack c
        accept A x
        """,
    # Doubtful numbers.
    "an ACK of what was never sent is asked about": """
        # The client acknowledges bytes that do not exist. The answer is a challenge ACK, also
        # with data, which is not taken.
        listen A
        syn c
        ack c
        accept A x
        claim c 10
        ack c
        wait 0.6
        claim c 10
        data c hello
        read x
        """,
    "a reset with a wrong ACK ends a handshake": """
        # The reset has the right number and an ACK that makes no sense. The ACK is not looked at.
        listen A
        syn c
        claim c 7
        rstack c
        ack c
        accept A x
        """,
    "a reset with a wrong ACK out of place is asked about": """
        # Neither its number nor its ACK is right. It is answered with a challenge ACK.
        listen A
        syn c
        skip c 5
        claim c 7
        rstack c
        """,
    "a SYN with a FIN repeats a SYN": """
        # A SYN with FIN arrives where a SYN is known. The FIN is not looked at, so the SYN-ACK is
        # repeated.
        listen A
        syn c
        skip c -1
        wait 0.6
        synfin c
        ack c
        accept A x
        """,
    "an ACK of nothing is reset where a Fast Open child waits for its own": """
        # The ACK acknowledges less than the SYN-ACK. It is reset, and the child still waits for
        # the right one.
        sysctl tcp_fastopen 515
        option L TCP_FASTOPEN 4
        listen L
        syn c hello
        claim c -1
        ack c
        ack c
        accept L x
        read x
        write x bye
        """,
    "too old an ACK is asked about": """
        # The segment acknowledges what is further back than any window was. It is answered with a
        # challenge ACK, and its data is dropped.
        listen A
        syn c
        ack c
        accept A x
        data c one
        read x
        write x abc
        ack c
        claim c -100000
        data c two
        read x
        """,
    "too old an ACK brings data that is read": """
        # The second data acknowledges less than was ever sent. Its ACK is challenged, but since
        # the segment is the one that was expected, its data was taken before that.
        listen A
        syn c
        data c hello
        claim c -1
        data c again
        accept A x
        read x
        """,
    "too old an ACK in the first data brings nothing": """
        # The connection has no memory in reserve yet, so that its first data is looked at in full.
        # The ACK is challenged, and the data dropped.
        listen A
        syn c
        ack c
        claim c -1
        data c again
        accept A x
        read x
        """,
    "a window cuts no buffer of one segment": """
        # The window is one segment, and Linux fills its buffers by segments. The twelve bytes that
        # the SACK range has left of the window stay empty.
        listen A
        offer c mss=1460 sack
        syn c
        skip c 5
        fin c
        accept A x
        write x @6000
        """,
    "a Fast Open child knows a window that is not scaled": """
        # Neither side scales, so that the window of the SYN is one as any other. The child's
        # segments are as large as that, and the first goes before the handshake is over.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        listen A
        offer c mss=1400 cookie
        syn c
        accept A x
        write x @1448
        """,
    "the stamp of a predicted ACK counts before its number": """
        # The ACK acknowledges less than was ever sent. It is challenged, but since all else is as
        # expected, its stamp was remembered before that, and is echoed.
        listen A
        syn c
        data c @700
        claim c -1
        stamp c 1010
        ack c
        """,
    "in TIME-WAIT nothing is shut down any more": """
        # Both sides have ended. shutdown() finds no socket in TCP, while write() still says that
        # its side was shut.
        listen A
        syn c
        ack c
        accept A x
        shutdown x write
        fin c
        shutdown x write
        write x ab
        """,
    "who tells of a repetition has less room for data": """
        # The second hello came before, so that what goes now takes a range along (D-SACK). The
        # segments are smaller by it, also those that no longer have one.
        listen A
        syn c
        data c hello
        skip c -5
        accept A x
        write x @20000
        data c hello
        """,
    "what was written for a small window stays in pieces": """
        # The largest window is two bytes when 3000 are written, in buffers of 48. When it grows
        # one buffer takes the next along, again at each attempt to send (tcp_grow_skb).
        listen A
        offer c mss=1460 sack
        syn c
        window c 2
        data c @700
        accept A x
        window c 500
        write x @3000
        data c hello
        wait 0.3
        """,
    "the question about the tail takes one buffer and the next": """
        # Ten segments wait for their ACK, and the rest for them, in buffers of 256 bytes. When
        # the tail is asked about one attempt to send has joined two.
        sysctl tcp_fastopen 515
        listen A
        syn c early
        window c 2
        ack c
        data c hello
        accept A x
        fin c
        write x @300
        write x @6000
        window c 500
        ack c
        shutdown x write
        wait 0.1
        """,
    "a smaller window makes the segments of a Fast Open child no smaller": """
        # They are reckoned by the window of the SYN as if it were scaled, until a larger one
        # comes. So a buffer has room for a whole segment, and the memory for more.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        window c 2
        data c hello
        accept A x
        write x @20000
        """,
    "an ACK stays in a window that was shrunk": """
        # The client takes back most of its window while ten segments are on their way. What is
        # said without data has the last number that the window still has.
        listen A
        syn c
        skip c 1
        ack c
        lose c 2
        accept A x
        write x @20000
        window c 20
        data c x
        """,
    "a range that begins with what is not acknowledged makes no sense": """
        # An ACK has told of one byte of two, and older ones of the other as a range. Nothing is
        # taken for arrived, so that the FIN has no room after the timeouts.
        listen A
        syn c
        ack c
        claim c 1
        accept A x
        lose c 3
        lose c 1
        write x ab
        ack c
        ack c
        wait 1.2
        shutdown x write
        ack c
        wait 0.3
        """,
    "small segments take small buffers": """
        # The third data acknowledges less than was ever sent. There is memory left for it after
        # the two before, so that it was taken before that was looked at.
        listen A
        syn c
        data c x
        data c @1448
        claim c -1
        data c hello
        accept A x
        read x
        """,
    "a Fast Open child answers nonsense twice a second at most": """
        # A reset is not exact, and so is challenged. A stale ACK right after it gets no answer:
        # the request of the child keeps the time of both.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        listen A
        syn c early
        skip c 1
        rst c
        stamp c 990
        ack c
        """,
}
