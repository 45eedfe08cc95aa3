"""Scripts in packetdrill's language: each is read, or refused with the place of what is wrong, and
what is read is told to the model.
"""

from __future__ import annotations

import random
import traceback

from bench.fuzz.found import Found, mutated
from segue.errors import ScriptError
from segue.lab.packetdrill import telling
from segue.lab.packetdrill.parser import parse

COUNT = 20_000
_HEAD = """--tolerance_usecs=10000
`sysctl -q net.ipv4.tcp_rmem='4096 131072 6291456'`
 0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 32792 <mss 1000,sackOK,TS val 10 ecr 0,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 10,nop,wscale 7>
"""
_LINES = (
    "+.01 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 20 ecr 100>",
    "+0 accept(3, ..., ...) = 4",
    "+0...0.1 read(4, ..., 1000) = 1000",
    "+.1 < P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 30 ecr 100>",
    "* > . 1:1(0) ack 1001 <...>",
    "+0 write(4, ..., 3000) = 3000",
    "+.2~+.3 > P. 1:3001(3000) ack 1001 <...>",
    "+0 < . 1001:1001(0) ack 1 win 257 <nop,nop,TS val 40 ecr 100,nop,nop,sack 1001:2001>",
    '+0 %{ assert tcpi_unacked <= 3 and tcpi_snd_mss > 0, "%d" % tcpi_unacked }%',
    "+0 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLOUT}], 1, 10) = 1",
    "+0 sendmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 40}], msg_flags=0}, 0) = 40",
    "+0 < icmp unreachable frag_needed mtu 800 [1:1001(1000)]",
    "+0 setsockopt(4, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0",
    "+0 shutdown(4, SHUT_WR) = 0 // and a comment",
    "+0 /* another */ close(4) = 0",
)


def text(chance: random.Random) -> str:
    """One script."""
    lines = [chance.choice(_LINES) for _ in range(chance.randrange(12))]
    made = (_HEAD if chance.random() < 0.9 else "") + "\n".join(lines)
    if chance.random() < 0.3:
        return made
    return mutated(chance, made.encode(), 3).decode(errors="replace")


def fuzz(count: int, first: int) -> Found:
    """So many scripts of this seed."""
    found, chance = Found(), random.Random(first)
    for number in range(count):
        made = text(chance)
        what = f"seed {first}, script {number} {made[:300]!r}"
        with found.timed(what):
            try:
                script = parse(made)
                result = telling.to_model(script, telling.terms(script))
                found.counts[result.verdict.name.lower()] += 1
            except ScriptError:
                found.counts["cannot be read"] += 1
            except Exception:  # noqa: BLE001  whatever it is, it is a finding
                found.finding(f"{what}\n{traceback.format_exc(limit=-3)}")
    return found
