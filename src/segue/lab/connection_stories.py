"""Stories of connections: data, both ends, what comes late, twice, or before its turn."""

from __future__ import annotations

CONNECTION_STORIES: dict[str, str] = {
    "the server ends first": """
        # The program writes and closes, so that the FIN is the server's. The client's own end
        # brings the connection to TIME_WAIT.
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
        # The client sends its last data and its FIN. The program reads both, closes, and the last
        # ACK ends the connection.
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
        # The program closes though data waits that it has not read. The client gets a reset and
        # not a FIN, so that it does not believe that somebody has its data (RFC 2525, 2.17).
        listen A
        syn c
        ack c
        data c unread
        accept A x
        close x
        """,
    "data out of order is told by its gaps": """
        # Pieces arrive with gaps between them. Each is answered with the ranges that are there
        # (SACK), and what fills a gap lets all before the next be read.
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
        # The client repeats what was received already. The answer names it as a range of its own
        # (D-SACK).
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
        # A reset within the window but not at its beginning is answered with an ACK (RFC 5961).
        # One outside is ignored, and the exact one ends the connection.
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
        # A SYN comes for a connection that exists. It is answered with an ACK, and the connection
        # goes on.
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
        # The program's data is not acknowledged. After the tail probe's time it is sent again,
        # until the ACK comes.
        listen A
        syn c
        ack c
        accept A x
        write x hello
        wait 0.3
        ack c
        """,
    "a FIN before its turn waits": """
        # The FIN arrives before the data that precedes it. It is kept, and read as the end when
        # the data has come.
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
        # The program has closed, so nobody can read any more. Data that comes then is answered
        # with a reset.
        listen A
        syn c
        ack c
        accept A x
        close x
        ack c
        data c late
        """,
    "after TIME_WAIT begins": """
        # A repeated FIN is acknowledged again. A SYN with a later number begins a new connection
        # with the same ports.
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
        # Both FINs cross. The connection goes through CLOSING to TIME_WAIT.
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
        # The client sends more after its FIN. It is dropped without a word, unless a part of it
        # comes again.
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
        # A FIN before its turn takes a number like a byte, and is part of the SACK range. So does
        # a second one behind it.
        listen A
        syn c
        skip c 1
        fin c
        skip c 5
        fin c
        """,
    "what was held already is told as a repetition": """
        # A piece that arrived before its turn comes again, and then a part of it with more. Each
        # is named as a repetition (D-SACK).
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
        # Data and a FIN before their turn, and another FIN behind. All of it is one SACK range,
        # as if the FIN were data.
        listen A
        syn c
        skip c 5
        data c x
        fin c
        fin c
        """,
    "a FIN that comes again is told as a repetition": """
        # The same FIN comes twice. In CLOSE_WAIT too the answer names it as a repetition.
        listen A
        syn c
        fin c
        skip c -1
        fin c
        """,
    "an early FIN for a closed socket is reset": """
        # The program has closed, and a FIN comes that is not next: something is missing before
        # it. That is data nobody will read, so the answer is a reset.
        listen A
        syn c
        skip c 1
        fin c
        accept A x
        close x
        fin c
        """,
    "of what waits for its ACK the last is sent again first": """
        # Data and a FIN are not acknowledged. The first repetition is a probe with the last of
        # it, whose answer tells of all (RFC 8985, 7).
        listen A
        syn c
        ack c
        accept A x
        write x bye
        close x
        wait 1.2
        """,
    "who reads after the FIN meets no reset": """
        # The client ends and then resets. Reading gives the end of file, and the error of the
        # reset is for who writes.
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
        # Nagle's rule holds the second small write back. When the probe is due, that new data is
        # the probe.
        listen A
        syn c
        ack c
        accept A x
        write x bye
        write x bye
        wait 1.2
        """,
    "after a timeout a FIN waits for an ACK": """
        # After a timeout the congestion window is one segment, and that one is in flight. So the
        # FIN of close() waits for the ACK.
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
        # The program has closed, and the client acknowledges the FIN with a segment that has old
        # data. The ACK counts, and the data is not told as a repetition.
        listen A
        syn c
        ack c
        skip c -1
        accept A x
        close x
        data c x
        """,
    "a segment for nobody is reset": """
        # Segments without a connection are answered with a reset that has the number they ask
        # for. A reset is answered with nothing.
        listen A
        ack c
        rst c
        syn d
        rst d
        ack d
        """,
    "a write for a small window fills its memory": """
        # The window has room for 500 bytes, and Linux takes a buffer for each 500 of the write.
        # Their overhead fills the memory of the connection before all is written.
        listen A
        offer c mss=1400 stamps
        syn c
        ack c
        accept A x
        write x @20000
        """,
    "what waits answers each FIN, and other segments twice a second": """
        # The client's second FIN is after the end, and is answered. That does not count as an
        # answer to a segment without data, so that the ACK after it is answered too, but not the
        # next.
        listen A
        syn c
        ack c
        accept A x
        close x
        fin c
        fin c
        ack c
        ack c
        """,
    "an orphan whose FIN another out of its turn acknowledges stays a socket": """
        # The program has closed, and the client's FIN has the number before its turn. It
        # acknowledges, but does not end. What goes past the turn then is counted as data that
        # nobody reads.
        listen A
        syn c
        ack c
        accept A x
        close x
        skip c -1
        fin c
        skip c -1
        ack c
        data c y
        skip c 1
        fin c
        """,
}
