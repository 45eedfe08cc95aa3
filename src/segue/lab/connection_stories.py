"""Stories of connections: data, both ends, what comes late, twice, or before its turn."""

from __future__ import annotations

CONNECTION_STORIES: dict[str, str] = {
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
}
