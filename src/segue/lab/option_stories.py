"""Stories of socket options, and of an interface of another size."""

from __future__ import annotations

OPTION_STORIES: dict[str, str] = {
    "who lingers for no time resets": """
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
        listen A
        syn c
        ack c
        accept A x
        option x TCP_CORK 1
        write x ab
        close x
        """,
    "TCP_NODELAY pushes what is corked, once": """
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
        option A SO_RCVBUF 20000
        listen A
        ask A SO_RCVBUF
        syn c
        ack c
        accept A x
        ask x SO_RCVBUF
        """,
    "the least receive buffer": """
        option A SO_RCVBUF 10
        listen A
        ask A SO_RCVBUF
        syn c
        """,
    "a large receive buffer bounds the scale": """
        option A SO_RCVBUF 1000000
        listen A
        ask A SO_RCVBUF
        syn c
        offer d mss=1000
        syn d
        """,
    "options as they are": """
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
        listen A
        offer c mss=1300
        syn c
        ack c
        accept A x
        info x
        """,
}
