"""Stories of handshakes: what a SYN offers, cookies, Fast Open, deferred acceptance, doubts."""

from __future__ import annotations

HANDSHAKE_STORIES: dict[str, str] = {
    "cookies save a handshake": """
        # With tcp_syncookies 2 no request is kept, so none has to migrate when A is closed. The
        # final ACK brings the cookie back, and B makes the connection of it.
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
        # A was the only member and listens again, so a new group begins. That group has sent no
        # cookie, so it believes none, and resets the client.
        sysctl tcp_syncookies 2
        listen A
        syn c
        shutdown A
        listen A
        ack c
        accept A x
        """,
    "overflow with a reset": """
        # Two handshakes would migrate to B, whose queue has room for one. With
        # tcp_abort_on_overflow the second is reset and not kept for a later try.
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
    "a Fast Open child migrates before its final ACK": """
        # The SYN brought data, so a child is in A's queue before its handshake is over. It
        # migrates like any other, and its final ACK comes to B's connection.
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
    "a Fast Open cookie is asked for, given and believed": """
        # c asks for a cookie and gets it with its SYN-ACK; d shows it and its data is taken at
        # once. Both children go to B when A is closed.
        sysctl tcp_migrate_req 1
        sysctl tcp_fastopen 3
        option A TCP_FASTOPEN 4
        option B TCP_FASTOPEN 4
        listen A
        offer c mss=1460 sack stamps cookie
        syn c hello
        ack c
        offer d mss=1460 sack stamps cookie
        syn d hello
        listen B
        close A
        accept B x
        accept B y
        read y
        ack d
        """,
    "who has a wrong Fast Open cookie is given the right one, once": """
        # c's cookie is wrong: its data is not taken, and the SYN-ACK has the right cookie. The
        # repetition of the SYN-ACK has none.
        sysctl tcp_fastopen 3
        option A TCP_FASTOPEN 4
        listen A
        offer c mss=1460 cookie=wrong
        syn c hello
        wait 1.2
        offer d mss=1460 cookie
        syn d hello
        accept A x
        read x
        """,
    "no Fast Open cookie is given where no slot is left": """
        # A allows one Fast Open child that has not finished its handshake. While d has that slot,
        # e's data is not taken, though its cookie is right.
        sysctl tcp_fastopen 3
        option A TCP_FASTOPEN 1
        listen A
        offer c mss=1460 cookie
        syn c
        offer d mss=1460 cookie
        syn d hello
        offer e mss=1460 cookie
        syn e hello
        accept A x
        """,
    "a request does not remember the stamp of a deferred ACK": """
        # The ACK of a deferred handshake has a newer stamp, and is dropped to wait for data. What
        # is then answered echoes the stamp of the SYN, since the request keeps no other.
        option A TCP_DEFER_ACCEPT 5
        listen A
        syn c
        stamp c 1010
        ack c
        stamp c 990
        skip c -1
        ack c
        """,
    "an ACK of something else is judged as a cookie": """
        # A has just sent a cookie to e when c acknowledges a wrong number. Its request is of no
        # help: the ACK is checked for a cookie, counted as a wrong one, and reset.
        listen A 1
        syn c
        syn d
        syn e
        claim c -1
        ack c
        """,
    "a cookie is nothing where a request has taken its place": """
        # The first SYN is answered with a cookie, and its repetition, when there is room, with a
        # request. The client acknowledges the first: the cookie is right, and nothing comes of it.
        sysctl tcp_syncookies 2
        listen A
        syn c
        sysctl tcp_syncookies 1
        skip c -1
        syn c
        ack c
        accept A x
        data c hello
        accept A x
        """,
    "a handshake without options": """
        # The SYN has no option at all. The connection works without scaling, SACK and timestamps,
        # with segments of 536 bytes.
        listen A
        offer c
        syn c
        ack c
        data c hello
        accept A x
        read x
        write x bye
        """,
    "a cookie without a timestamp forgets scale and SACK": """
        # A SYN cookie is a number, and the rest of what was agreed on is kept in the low bits of
        # a timestamp. This client sends none, so scale and SACK are forgotten.
        sysctl tcp_syncookies 2
        listen A
        offer c mss=1300 scale=7 sack
        syn c
        ack c
        skip c 5
        data c hello
        accept A x
        """,
    "a handshake without timestamps migrates": """
        # c offers a small segment size, scale and SACK, and no timestamps. The request migrates
        # to B at its ACK with all that was agreed on.
        sysctl tcp_migrate_req 1
        listen A
        offer c mss=536 scale=3 sack
        syn c
        listen B
        close A
        ack c
        data c hello
        accept B x
        read x
        write x bye
        """,
    "without the switch a Fast Open child is reset": """
        # A Fast Open child waits for its final ACK when A is closed, and migration is off. It is
        # reset at once.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        listen A
        syn c hello
        listen B
        close A
        ack c
        """,
    "a deferred handshake is finished by its target": """
        # A has TCP_DEFER_ACCEPT, so c's ACK without data makes no child. After A is closed the
        # next ACK finishes the handshake at B, which does not defer.
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
    "a deferred handshake is stuck after a question": """
        # A guess at a reset is answered with an ACK, whose stamp the client echoes from then on. No
        # SYN-ACK had that stamp, and a deferred one is not sent again: the data is refused each
        # time, a defect of Linux (docs/LINUX.md, echo).
        option A TCP_DEFER_ACCEPT 5
        listen A
        syn c
        ack c
        skip c 5
        rst c
        skip c -5
        data c hello
        accept A x
        wait 1.2
        skip c -5
        data c hello
        accept A x
        """,
    "a reset or a SYN in a handshake": """
        # An exact reset ends c's handshake, so that its ACK is reset. A SYN with another number
        # ends d's.
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
        # The client repeats its SYN at once. It is answered half a second later at the earliest,
        # and the handshake is finished as ever.
        listen A
        syn c
        skip c -1
        syn c
        ack c
        accept A x
        """,
    "a final ACK of something else is reset": """
        # The final ACK has a number far outside the window, and is answered but not believed. The
        # right one finishes the handshake.
        listen A
        syn c
        skip c 70000
        ack c
        skip c -70000
        ack c
        accept A x
        """,
    "a handshake with data in its final ACK": """
        # The final ACK was lost or is late, and data comes first. It finishes the handshake at B,
        # which reads the data.
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
        # A repeats its SYN-ACK once, as tcp_synack_retries says. When the timer fires again the
        # request is dropped, and the late ACK is reset.
        sysctl tcp_synack_retries 1
        listen A
        syn c
        wait 1.5
        wait 2.0
        ack c
        """,
    "one request more than the backlog is kept, the next gets a cookie": """
        # A has a backlog of one: two half-open requests are kept, since full means more than the
        # backlog. The third SYN is answered with a cookie.
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
    "only the exact reset ends a handshake": """
        # A reset that is off by five is answered with an ACK, since it may be a guess (RFC 5961).
        # The handshake goes on.
        listen A
        syn c
        skip c 5
        rst c
        rst c
        skip c -5
        ack c
        accept A x
        """,
    "a guess at the reset of a handshake is answered twice a second at most": """
        # Two guesses follow each other at once. Only the first is answered.
        listen A
        syn c
        skip c 5
        rst c
        rst c
        """,
    "a FIN out of its window is always answered": """
        # The rule that answers at most twice a second is for segments with neither data nor FIN.
        # So each of these is answered.
        listen A
        syn c
        skip c -1
        fin c
        fin c
        skip c -2
        fin c
        """,
    "a Fast Open child's handshake has a window of its own": """
        # A segment for a Fast Open child in SYN_RECV is first judged as one for a request, with
        # the window of the SYN-ACK. What is outside is answered and dropped.
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
        # The program answers before the final ACK, which is what Fast Open is for. Its data is
        # sent beside the SYN-ACK, which is repeated when the ACK does not come.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn d early
        accept A x
        write x bye
        wait 1.2
        """,
    "a FIN with a cookie that is off by one is acknowledged at once": """
        # The FIN acknowledges one number too few, which reads as a cookie with the next size in
        # the table. In IPv6 there is such a size, so it is believed.
        ipv6
        sysctl tcp_syncookies 2
        listen A 1
        syn c
        skip c -1
        fin c
        """,
    "what is sent after a cookie is sent again as soon as after a handshake": """
        # With a cookie nobody knows when the SYN-ACK was sent, but its stamp comes back. So the
        # round trip is known, and the repetition comes soon.
        sysctl tcp_syncookies 2
        listen A
        syn c
        ack c
        accept A x
        write x bye
        wait 1.2
        """,
    "a Fast Open child that its program has reset leaves its slot": """
        # The program closes the child over unread data, which resets it. Only a reset from
        # outside is held against a client, so the next has the slot at once.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        close x
        syn d early
        """,
    "a Fast Open child's handshake is a round trip": """
        # The final ACK carries a FIN. The time from SYN-ACK to ACK is measured all the same, and
        # what the program writes is repeated after it.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        fin c
        accept A x
        write x bye
        wait 0.3
        """,
    "a Fast Open child that is shut waits with its FIN": """
        # Its program shuts the writing side before the handshake is over. The FIN goes when the
        # final ACK has come, with the rest of what was to be said.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        shutdown x write
        write x bye
        data c more
        read x
        fin c
        """,
    "a Fast Open child that is shut and closed does not wait": """
        # Its program shuts the writing side and then closes it, before the handshake is over. The
        # FIN goes at once, and is acknowledged together with the SYN-ACK.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        read x
        shutdown x write
        close x
        ack c
        fin c
        """,
    "what a Fast Open child has said tells the round trip better than its handshake": """
        # The final ACK comes late, and acknowledges what the program has just said. The time of
        # that counts, so that the tail of the next answer is asked about soon.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        wait 0.5
        write x bye
        ack c
        write x @3000
        wait 0.15
        """,
    "a Fast Open child asks about a reset as its handshake has done": """
        # A reset that is off by five comes before the final ACK, and another after it. Each is
        # challenged at once: the handshake counts by itself how often it may say so.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        skip c 5
        rst c
        ack c
        rst c
        rst c
        """,
    "a Fast Open child that resets has filled its window": """
        # The program writes as much as the client's window takes, and closes over unread data. The
        # reset has the number after what was sent: the SYN-ACK takes no room in the window.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        offer c mss=1400 stamps
        syn c early
        accept A x
        write x @20000
        close x
        """,
    "a Fast Open child that was closed challenges what it never sent": """
        # What was written does not fit into the window when its program closes. It ends already
        # all the same. An ACK of too much is challenged, where an open one would reset.
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        offer c mss=1460 scale=7 sack stamps cookie
        syn c
        accept A x
        write x @20000
        close x
        claim c 7
        fin c
        ack c
        """,
}
