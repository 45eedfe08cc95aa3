"""Stories of handshakes: what a SYN offers, cookies, Fast Open, deferred acceptance, doubts."""

from __future__ import annotations

HANDSHAKE_STORIES: dict[str, str] = {
    "cookies save a handshake": """
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
        sysctl tcp_syncookies 2
        listen A
        syn c
        shutdown A
        listen A
        ack c
        accept A x
        """,
    "overflow with a reset": """
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
    "a handshake without options": """
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
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 4
        listen A
        syn c hello
        listen B
        close A
        ack c
        """,
    "a deferred handshake is finished by its target": """
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
    "a reset or a SYN in a handshake": """
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
        listen A
        syn c
        skip c -1
        syn c
        ack c
        accept A x
        """,
    "a final ACK of something else is reset": """
        listen A
        syn c
        skip c 70000
        ack c
        skip c -70000
        ack c
        accept A x
        """,
    "a handshake with data in its final ACK": """
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
        sysctl tcp_synack_retries 1
        listen A
        syn c
        wait 1.5
        wait 2.0
        ack c
        """,
    "one request more than the backlog is kept, the next gets a cookie": """
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
        listen A
        syn c
        skip c 5
        rst c
        rst c
        """,
    "a FIN out of its window is always answered": """
        listen A
        syn c
        skip c -1
        fin c
        fin c
        skip c -2
        fin c
        """,
    "a Fast Open child's handshake has a window of its own": """
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
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn d early
        accept A x
        write x bye
        wait 1.2
        """,
    "a FIN with a cookie that is off by one is acknowledged at once": """
        ipv6
        sysctl tcp_syncookies 2
        listen A 1
        syn c
        skip c -1
        fin c
        """,
    "what is sent after a cookie is sent again as soon as after a handshake": """
        sysctl tcp_syncookies 2
        listen A
        syn c
        ack c
        accept A x
        write x bye
        wait 1.2
        """,
    "a Fast Open child that its program has reset leaves its slot": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        accept A x
        close x
        syn d early
        """,
    "a Fast Open child's handshake is a round trip": """
        sysctl tcp_fastopen 515
        option A TCP_FASTOPEN 1
        listen A
        syn c early
        fin c
        accept A x
        write x bye
        wait 0.3
        """,
}
