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
}
