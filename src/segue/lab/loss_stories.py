"""Stories of segments that are lost on the way to the client, and of what is sent again."""

from __future__ import annotations

LOSS_STORIES: dict[str, str] = {
    "what SACK shows to be lost is sent again": """
        # The second of seven segments is lost, and the client tells what came after it. When
        # three have come out of order, it is sent again, and nothing else.
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        lose c 2
        write x @10000
        ack c
        ack c
        """,
    "a lost end of a write is asked about": """
        # The last segment is lost, so that no SACK range tells of it. Before any timeout the
        # tail is sent again as a question, which brings the client what it lacks.
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        lose c 3
        write x @3000
        ack c
        wait 0.3
        ack c
        """,
    "a repetition that was for nothing is told": """
        # Everything has arrived, but the client says nothing for a while. So the tail and then the
        # beginning are sent again, and its ACK tells what came twice with a range (D-SACK).
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        write x @3000
        wait 0.3
        ack c
        write x bye
        ack c
        """,
    "without SACK a loss waits for the timeout": """
        # The client has not offered SACK, and one ACK that acknowledges nothing proves no loss.
        # So the loss is known by the timeout only.
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        window c 30000
        ack c
        accept A x
        lose c 1
        write x @3000
        ack c
        wait 0.3
        ack c
        """,
    "the tail is asked about after the last write": """
        # A write follows another before anything is acknowledged. The question about the tail
        # waits for two round trips after the second, and no longer after the first.
        listen A
        syn c
        fin c
        accept A x
        write x @6000
        write x @1448
        stamp c 1010
        ack c
        """,
    "two losses that one ACK tells of are sent again at once": """
        # The first and the third of ten segments are lost. The client tells its ranges by
        # recency, and Linux reads them from the lowest on, so that no order seems changed.
        listen A
        syn c
        ack c
        accept A x
        lose c 1
        lose c 3
        write x @20000
        ack c
        """,
    "what is late for a fourth of a round trip is lost": """
        # The second and the third segment are lost, and only two that follow tell of it. They are
        # waited for (RFC 8985, 6.2), and then go again, as many as have arrived.
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        lose c 2
        lose c 3
        write x @6000
        ack c
        wait 0.1
        ack c
        """,
    "of a segment that has arrived in part the rest is sent again": """
        # The ACK says seven bytes more than have arrived: so many of the second segment. When the
        # timeout comes the others go again, and nothing is added to them.
        listen A
        syn c
        ack c
        claim c 7
        accept A x
        lose c 2
        write x @6000
        ack c
        wait 0.3
        """,
    "a short write that is sent again still has PSH": """
        # The first of many segments is three bytes, the end of a write. Sent again it says so.
        listen A
        syn c
        ack c
        accept A x
        lose c 1
        write x bye
        write x @20000
        ack c
        """,
    "a FIN that has arrived is not sent again": """
        # The three bytes before it are lost. They are sent again alone, since the client tells
        # of the FIN by a range.
        listen A
        syn c
        ack c
        accept A x
        lose c 1
        write x bye
        close x
        ack c
        """,
    "what is sent into a window that was shut is a question": """
        # The client shuts its window over 300 bytes that it has. They are sent again as after
        # a timeout, but none is counted, and none ends the connection.
        listen A
        syn c
        ack c
        accept A x
        write x @300
        window c 0
        claim c -300
        ack c
        wait 1.2
        """,
    "of what was lost only the first goes into a window that was shut": """
        # Two are lost of ten, and the client shuts its window. The first goes again as a question
        # about that, and the other waits.
        listen A
        syn c
        lose c 1
        lose c 3
        ack c
        skip c 5
        accept A x
        window c 0
        write x @20000
        data c @700
        """,
    "a FIN that waits for the congestion window asks about the tail": """
        # All that the congestion window allows is on its way when the program ends. The FIN may
        # not go, but then it asks about the tail in the place of a repetition.
        listen A
        syn c
        ack c
        accept A x
        write x @14480
        shutdown x write
        wait 0.1
        """,
    "what is left of segments that were sent at once is cut anew": """
        # The client has one byte of the first segment and all of the third. What it lacks is
        # cut into segments from its number on.
        listen A
        syn c
        lose c 1
        lose c 2
        lose c 5
        ack c
        claim c 1
        accept A x
        write x @20000
        ack c
        """,
    "a repetition is no longer than a window that was shrunk": """
        # Two of five are lost, and the client takes back all but 256 bytes of its window. As
        # much of the first goes again.
        listen A
        syn c
        ack c
        lose c 1
        lose c 3
        accept A x
        data c hello
        lose c 5
        write x @6000
        window c 2
        ack c
        """,
    "the last of some segments that are sent at once has PSH once": """
        # The window has room for two segments, of which the last is small, in a buffer that is
        # larger. It has PSH as it is sent at once with the first, and none as a repetition.
        listen A
        offer c mss=1460 sack
        syn c
        data c x
        accept A x
        write x @20000
        skip c 1
        fin c
        wait 0.1
        """,
    "segments are as small as half of the window, down to what stamps leave": """
        # The client's window is 20 bytes at first, so that what is written waits in buffers of 36:
        # with stamps no segment is planned to be smaller. When it grows, two go at once.
        listen A
        offer c mss=1300 stamps
        syn c
        window c 20
        ack c
        accept A x
        write x @1448
        window c 500
        ack c
        """,
    "how old a loss is shows in what was acknowledged": """
        # One segment is acknowledged that was sent well before the others, and of those the first
        # is lost. The round trip is that of the former, so that the loss seems young, and waits,
        # however many came after it.
        listen A
        syn c
        ack c
        accept A x
        write x @1448
        lose c 1
        write x @6000
        ack c
        wait 0.05
        """,
    "who has waited for what is late begins with one segment": """
        # The third of five is lost, and the tail was asked about. The ACK of two tells of it, but
        # as late only. When it is sent again it takes all the room there is, and the FIN waits.
        listen A
        syn c
        ack c
        lose c 3
        accept A x
        write x @6000
        wait 0.1
        ack c
        wait 0.05
        shutdown x write
        wait 0.02
        """,
    "no second question about a tail is asked before the first has told": """
        # The end of a write is lost, and the question about it repairs that. The ACK does not tell
        # whether anything was lost, as the next one will. Until then the tail of what follows is
        # not asked about, and goes again at the timeout.
        listen A
        syn c
        ack c
        accept A x
        lose c 3
        write x @3000
        wait 0.1
        ack c
        write x @3000
        wait 0.1
        wait 0.3
        """,
    "what SACK ranges leave no room for is sent again apart": """
        # The first of three segments is lost. When it goes again there is a range to be told, so
        # that its last twelve bytes are left, which go with the next ACK.
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        lose c 1
        write x @3000
        skip c 1
        data c hello
        wait 0.05
        ack c
        wait 0.05
        ack c
        """,
    "a peer that has forgotten what it had told is sent it again soon": """
        # The client has told of all but one segment of ten by a range. Then it acknowledges less
        # than that: it has forgotten the rest, and is sent it again after 10 ms.
        listen A
        syn c
        window c 30000
        ack c
        accept A x
        lose c 2
        write x @14480
        ack c
        claim c -3000
        ack c
        wait 0.1
        claim c -2000
        ack c
        """,
    "no question about a tail goes beyond a window that was shrunk": """
        # Two segments are lost, and the client shrinks its window to less than the first. What
        # would ask about the tail is beyond that, so that only the timeout follows.
        listen A
        syn c
        data c hello
        lose c 1
        lose c 2
        accept A x
        window c 2
        write x @1448
        write x bye
        data c x
        wait 0.15
        """,
    "the last of some segments that are sent again at once has PSH": """
        # The client has all but the last byte of the first segment, and the second is lost. Both
        # were sent at once, and so are the two that are left of them: the last has PSH.
        listen A
        syn c
        ack c
        accept A x
        lose c 2
        write x @20000
        claim c -1
        ack c
        ack c
        """,
}
