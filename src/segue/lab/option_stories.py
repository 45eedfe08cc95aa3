"""Stories of socket options, and of an interface of another size."""

from __future__ import annotations

OPTION_STORIES: dict[str, str] = {
    "who lingers for no time resets": """
        # SO_LINGER with 0 seconds: close() ends the connection by a reset. What was written is
        # thrown away.
        listen A
        syn c
        ack c
        accept A x
        option x SO_LINGER 0
        write x hello
        close x
        ack c
        """,
    "lingering is inherited, and a reset after the FIN, too": """
        # The listener has SO_LINGER 0, and so has the connection that is accepted from it.
        # Closing it resets, also after the client's FIN.
        option A SO_LINGER 0
        listen A
        syn c
        ack c
        accept A x
        ask x SO_LINGER
        data c hi
        read x
        fin c
        close x
        ack c
        """,
    "who lingers for no time after both ends resets nobody": """
        # Both sides have ended before the close. There is nobody to reset.
        listen A
        syn c
        ack c
        accept A x
        option x SO_LINGER 0
        shutdown x write
        fin c
        close x
        """,
    "who lingers for some time resets nobody": """
        # SO_LINGER with a second waits and does not reset. The end is the usual one.
        listen A
        syn c
        ack c
        accept A x
        option x SO_LINGER 1
        shutdown x write
        ack c
        fin c
        close x
        """,
    "a cork holds what is small": """
        # TCP_CORK holds small writes back. When it is taken off, they go as one segment.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_CORK 1
        write x ab
        write x cd
        option x TCP_CORK 0
        ack c
        """,
    "a cork lets full segments go, and the rest after a timeout": """
        # What fills a segment goes at once. The rest goes after 200 ms, though the cork is still
        # on.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_CORK 1
        write x @2000
        ack c
        wait 0.4
        ack c
        """,
    "a cork does not hold an end": """
        # The program closes a corked connection. What was held goes with the FIN.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_CORK 1
        write x ab
        close x
        """,
    "TCP_NODELAY pushes what is corked, once": """
        # Setting TCP_NODELAY sends what waits at that moment. What is written afterwards is held
        # by the cork again.
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        ack c
        accept A x
        option x TCP_CORK 1
        write x ab
        option x TCP_NODELAY 1
        write x cd
        option x TCP_CORK 0
        ack c
        """,
    "TCP_NODELAY frees what waits for a small one": """
        # The second small write waits for the ACK of the first. Setting TCP_NODELAY sends it.
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        ack c
        accept A x
        write x ab
        write x cd
        option x TCP_NODELAY 1
        ack c
        """,
    "keepalive asks and gives up": """
        # The client says nothing for TCP_KEEPIDLE, and is asked. It answers once, then no more,
        # and after TCP_KEEPCNT questions the connection ends with ETIMEDOUT.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_KEEPIDLE 1
        option x TCP_KEEPINTVL 1
        option x TCP_KEEPCNT 2
        option x SO_KEEPALIVE 1
        wait 1.2
        ack c
        wait 1.2
        wait 2.2
        ask x SO_ERROR
        read x
        """,
    "keepalive is inherited, and data puts it off": """
        # The listener's keepalive settings are the connection's. Data from the client begins the
        # idle time anew.
        option A SO_KEEPALIVE 1
        option A TCP_KEEPIDLE 1
        option A TCP_KEEPINTVL 1
        option A TCP_KEEPCNT 2
        listen A
        syn c
        ack c
        wait 0.6
        data c hi
        wait 0.7
        wait 0.5
        ack c
        accept A x
        wait 3.3
        read x
        read x
        """,
    "a user timeout ends what is not acknowledged": """
        # TCP_USER_TIMEOUT says how long data may stay without an ACK. Then the connection ends
        # with ETIMEDOUT, whatever tcp_retries2 says.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_USER_TIMEOUT 700
        write x hello
        wait 2.0
        read x
        """,
    "a user timeout ends a shut window": """
        # The window is shut and what was written waits. After TCP_USER_TIMEOUT the connection
        # ends.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_USER_TIMEOUT 700
        window c 0
        ack c
        write x hello
        wait 2.0
        read x
        """,
    "a user timeout ends what keepalive asks about": """
        # With both set, the user timeout takes the place of TCP_KEEPCNT. The connection ends when
        # nothing was heard for so long.
        listen A
        syn c
        ack c
        accept A x
        option x TCP_USER_TIMEOUT 1500
        option x TCP_KEEPIDLE 1
        option x TCP_KEEPINTVL 1
        option x SO_KEEPALIVE 1
        wait 1.1
        wait 1.1
        read x
        """,
    "a receive buffer bounds the window and its scale": """
        # SO_RCVBUF is doubled, and half of that is the window. The scale is just what such a
        # window needs.
        option A SO_RCVBUF 20000
        listen A
        ask A SO_RCVBUF
        syn c
        ack c
        accept A x
        ask x SO_RCVBUF
        """,
    "the least receive buffer": """
        # SO_RCVBUF 10 becomes the least value there is, 2304. The first window is half of that,
        # which is less than a segment.
        option A SO_RCVBUF 10
        listen A
        ask A SO_RCVBUF
        syn c
        """,
    "a large receive buffer bounds the scale": """
        # A megabyte is doubled, and half of it is the largest window. The scale is just enough
        # for it, and is told where the client scales.
        option A SO_RCVBUF 1000000
        listen A
        ask A SO_RCVBUF
        syn c
        offer d mss=1000
        syn d
        """,
    "options as they are": """
        # The options of a listener are read back, and then those of the connection that inherits
        # them. Some are rounded or doubled by the kernel.
        option A TCP_MAXSEG 1000
        option A TCP_DEFER_ACCEPT 5
        option A TCP_FASTOPEN 7
        listen A
        ask A SO_REUSEPORT
        ask A SO_ACCEPTCONN
        ask A TCP_MAXSEG
        ask A TCP_DEFER_ACCEPT
        ask A TCP_FASTOPEN
        ask A TCP_KEEPIDLE
        ask A TCP_KEEPINTVL
        ask A TCP_KEEPCNT
        ask A TCP_SYNCNT
        ask A TCP_NODELAY
        ask A TCP_CORK
        ask A SO_LINGER
        ask A SO_KEEPALIVE
        ask A TCP_USER_TIMEOUT
        ask A SO_RCVBUF
        ask A SO_ERROR
        syn c
        data c hello
        accept A x
        ask x SO_REUSEPORT
        ask x SO_ACCEPTCONN
        ask x TCP_MAXSEG
        ask x TCP_NODELAY
        ask x SO_RCVBUF
        ask x SO_ERROR
        rst c
        ask x SO_ERROR
        ask x SO_ERROR
        read x
        """,
    "options that are refused": """
        # Values out of range are answered with EINVAL. A switch takes any number, and is 1
        # afterwards.
        listen A
        option A TCP_KEEPIDLE 0
        option A TCP_KEEPCNT 128
        option A TCP_SYNCNT 0
        option A TCP_USER_TIMEOUT -1
        option A TCP_FASTOPEN -1
        option A TCP_KEEPINTVL 40000
        option A TCP_NODELAY 7
        ask A TCP_NODELAY
        """,
    "the interface takes larger packets": """
        # With an MTU of 9000 the segments are larger. What was agreed on is the smaller of both
        # sides.
        mtu 9000
        listen A
        offer c mss=8960 stamps
        syn c
        ack c
        accept A x
        write x @10000
        ack c
        ack c
        """,
    "the interface takes smaller packets": """
        # With an MTU of 1300 the segments are smaller than the client would take. The SYN-ACK
        # says so, too.
        mtu 1300
        listen A
        offer c mss=1460 scale=7 stamps
        syn c
        ack c
        accept A x
        write x @3000
        ack c
        ack c
        """,
    "TCP_INFO of a listener and of a connection": """
        # For a listener TCP_INFO tells how long its queue is and may be. For a connection it
        # tells sizes, options and what is in flight.
        listen A 5
        info A
        offer c mss=1460 scale=7 stamps
        syn c
        info A
        ack c
        info A
        accept A x
        info A
        info x
        data c hello
        info x
        read x
        write x @2000
        info x
        ack c
        info x
        """,
    "TCP_INFO of what waits": """
        # A cork holds data back. TCP_INFO tells it as not sent.
        option A TCP_CORK 1
        listen A
        offer c mss=1000
        syn c
        window c 3000
        ack c
        accept A x
        write x @2500
        info x
        ack c
        info x
        close x
        """,
    "TCP_INFO of what is sent again": """
        # Data is not acknowledged and sent again. TCP_INFO tells the repetitions and the longer
        # timeout.
        listen A
        syn c
        ack c
        accept A x
        write x hello
        wait 0.9
        info x
        ack c
        info x
        """,
    "TCP_INFO of a shut window": """
        # The client's window is shut. TCP_INFO tells the questions, until the window opens.
        listen A
        syn c
        ack c
        accept A x
        window c 0
        ack c
        write x hello
        wait 0.9
        info x
        ack c
        info x
        window c 10
        ack c
        ack c
        info x
        """,
    "TCP_INFO at the ends": """
        # Both sides end one after the other. TCP_INFO tells each state on the way.
        listen A
        syn c
        ack c
        accept A x
        data c hello
        fin c
        info x
        read x
        shutdown x write
        info x
        ack c
        info x
        """,
    "TCP_INFO of Fast Open": """
        # A Fast Open child is accepted before its final ACK. TCP_INFO tells SYN_RECV, and then
        # ESTABLISHED.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 5
        listen A
        syn c hello
        accept A x
        info x
        write x hi
        info x
        ack c
        info x
        """,
    "TCP_INFO with ranges": """
        # A piece arrived with a gap before it. TCP_INFO counts what was received in its turn.
        listen A
        syn c
        ack c
        accept A x
        skip c 4
        data c cc
        info x
        skip c -6
        data c aaaaaa
        info x
        """,
    "TCP_INFO without options": """
        # The SYN offered a size and nothing else. TCP_INFO tells no options.
        listen A
        offer c mss=1300
        syn c
        ack c
        accept A x
        info x
        """,
    "many small buffers fill the memory for writes": """
        # The largest window is 500 bytes, and so is each buffer, whose overhead counts. What
        # there is room for is told by what is sent when the window grows.
        listen A
        offer c mss=1400 stamps
        syn c
        ack c
        accept A x
        write x @20000
        info x
        window c 30000
        ack c
        ack c
        """,
}
