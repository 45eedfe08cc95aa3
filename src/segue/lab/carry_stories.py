"""Stories of connections that are carried to another listener after they were accepted."""

from __future__ import annotations

# What is agreed on is asked of both owners, and both ways go on with several segments.
_AGREED = """listen A
        {offer}
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        ack c
        info x
        listen B
        close A
        carry x
        accept B y
        info y
        stamp c 1007
        data c @3000
        read y
        write y @3000
        ack c
        ask y TCP_MAXSEG
        close y
        ack c
        """

CARRY_STORIES: dict[str, str] = {
    "a kept connection is carried to another listener": """
        # The request of c is answered by x, which A has accepted. A stops, and the connection is
        # carried to B, as y: the same sequence numbers, and not one packet to c. x reads an end,
        # and y answers the next request.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        ack c
        listen B
        close A
        woken B
        carry x
        woken B
        read x
        write x unheard
        close x
        accept B y
        stamp c 1003
        data c POST-two
        read y
        write y two
        ack c
        fin c
        read y
        close y
        ack c
        """,
    "an unread request goes along with its connection": """
        # x has answered a request and not read the next one, as a worker that stalls. The bytes go
        # along: y reads and answers them.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        data c POST-two
        wait 0.3
        listen B
        close A
        carry x
        accept B y
        read y
        read x
        write y two
        ack c
        data c POST-three
        read y
        """,
    "a first request that nobody has read goes along": """
        # c has connected and sent a request. A has accepted it, and no more.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        listen B
        close A
        carry x
        accept B y
        read y
        write y one
        ack c
        """,
    "a connection that has only connected is carried": """
        # Not one byte has gone either way. The packet that makes the connection again is the ACK
        # that ended its handshake.
        listen A
        syn c
        ack c
        accept A x
        listen B
        close A
        carry x
        accept B y
        data c POST-one
        read y
        write y one
        ack c
        """,
    "what cannot be carried stays": """
        # While an answer is owed, while the client has not acknowledged it, without a request
        # line in what is unread, where no queue has room, and once it has ended. In between c and
        # x go on.
        listen A 0
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        carry x
        write x one
        carry x
        ack c
        data c two
        carry x
        read x
        write x two
        ack c
        syn d
        ack d
        carry x
        accept A z
        fin c
        carry x
        write x three
        ack c
        close x
        """,
    "a connection is carried to and fro": """
        # From A to B and back, twice. Each has it as if it were new: the options of the listener,
        # and no round trip that was measured.
        option B TCP_NODELAY 1
        listen A
        syn c
        ack c
        accept A w
        listen B
        shutdown A
        carry w
        accept B x
        ask x TCP_NODELAY
        data c POST-one
        read x
        write x one
        ack c
        listen A
        shutdown B
        carry x
        accept A y
        ask y TCP_NODELAY
        data c POST-two
        read y
        write y two
        ack c
        listen B
        shutdown A
        carry y
        accept B z
        data c POST-three
        read z
        write z three
        ack c
        info z
        """,
    "an answer that is lost after a carry": """
        # y knows the round trip of x: the segment that makes its connection has the stamp that
        # would come back. So the tail is asked about as soon as x would have done that.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        ack c
        listen B
        close A
        carry x
        accept B y
        data c POST-two
        read y
        write y two
        wait 0.3
        ack c
        info y
        """,
    "what comes again after a carry is known": """
        # An old segment comes, and one that is not its turn. The new owner answers them as the old
        # one would.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        ack c
        listen B
        close A
        carry x
        accept B y
        skip c -8
        data c POST-one
        skip c 4
        data c late
        read y
        skip c -8
        data c earl
        read y
        rst c
        read y
        """,
    "a client that gives up ends what was carried": """
        # c knows nothing of a carry, and gives up. Its reset ends the connection that waits in B's
        # queue, and y reads that.
        listen A
        syn c
        ack c
        accept A x
        listen B
        close A
        carry x
        rst c
        accept B y
        read y
        """,
    "a program chooses to whom a connection is carried": """
        # Both listen. The policy of the group is asked as for a new connection, and has all of
        # them go to B.
        listen A
        syn c
        ack c
        accept A x
        data c POST-one
        read x
        write x one
        ack c
        listen B
        program A second
        carry x
        accept A y
        accept B y
        data c POST-two
        read y
        write y two
        """,
    **{
        f"a connection {how} is carried": f"""
        # What was agreed on in the handshake counts on, though nothing of that is sent again. Both
        # sides go on with more than a segment.
        {_AGREED.format(offer=offer)}"""
        for how, offer in {
            "without timestamps": "offer c mss=1460 scale=7 sack",
            "without selective acknowledgements": "offer c mss=1460 scale=7 stamps",
            "without window scaling": "offer c mss=1460 sack stamps",
            "without any option": "offer c",
            "with a window scale of 0": "offer c mss=1460 scale=0 sack stamps",
            "with a window scale of 14": "offer c mss=1460 scale=14 sack stamps",
            "with segments of 536 bytes": "offer c mss=536 scale=7 sack stamps",
        }.items()
    },
}
