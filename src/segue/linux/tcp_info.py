"""All of struct tcp_info by the names of its fields, without tcpi_ (include/uapi/linux/tcp.h)."""

from __future__ import annotations

import socket
import struct

_BYTES = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
_SCALES_AT = 6
_WORDS = (
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets",
    "last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh",
    "rtt", "rttvar", "snd_ssthresh", "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space",
    "total_retrans",
)  # fmt: skip
_AFTER_WORDS = (
    "pacing_rate:8", "max_pacing_rate:8", "bytes_acked:8", "bytes_received:8", "segs_out:4",
    "segs_in:4", "notsent_bytes:4", "min_rtt:4", "data_segs_in:4", "data_segs_out:4",
    "delivery_rate:8", "busy_time:8", "rwnd_limited:8", "sndbuf_limited:8", "delivered:4",
    "delivered_ce:4", "bytes_sent:8", "bytes_retrans:8", "dsack_dups:4", "reord_seen:4",
    "rcv_ooopack:4", "snd_wnd:4",
)  # fmt: skip
_SIZE = 256


def read(sock: socket.socket) -> dict[str, int]:
    """What this kernel tells of them; older ones tell fewer.  Raises OSError."""
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    found = dict(zip(_BYTES, data, strict=False))
    found["snd_wscale"], found["rcv_wscale"] = data[_SCALES_AT] & 0xF, data[_SCALES_AT] >> 4
    at = 8
    for one in (*(f"{word}:4" for word in _WORDS), *_AFTER_WORDS):
        name, _, size = one.partition(":")
        if at + int(size) > len(data):
            break
        found[name] = struct.unpack_from("=Q" if size == "8" else "=I", data, at)[0]
        at += int(size)
    return found
