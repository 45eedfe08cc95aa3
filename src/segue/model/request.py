"""A half-open request, and what the SYN fixed for the connection it becomes.

Stands for ``struct tcp_request_sock``.  What a child takes from here is of the listener that the
SYN came to; what it takes from the listener's options is of the one that makes it (FACTS, options).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from segue.model.arrival import Path
from segue.model.sysctls import Sysctls
from segue.wire.options import MAX_WINDOW_SCALE, Options
from segue.wire.seq import Seq

if TYPE_CHECKING:
    from segue.model.connection import Connection
    from segue.model.listener import Listener

HEADERS = {False: 40, True: 60}  # IPv4 or IPv6, and TCP without options
_NO_MSS_SAID = {False: 536, True: 1220}  # RFC 9293, 3.7.1 (TCP_MSS_DEFAULT, IPV6_MIN_MTU - 60)
STAMPS_SIZE = 12
_UNSCALED = 65535


@dataclass(slots=True)
class Terms:
    """What both sides agreed to in the handshake."""

    mss: int  # the largest segment we send, without its options
    our_mss: int  # the largest that we say we take
    window: int  # the first that we offer
    scale_in: int | None  # of the windows that we offer; None: neither side scales
    scale_out: int
    stamps: bool
    sack: bool
    ecn: bool = False

    @classmethod
    def of(
        cls, said: Options, *, ipv6: bool, mtu: int, options: dict[str, int], sysctls: Sysctls
    ) -> Terms:
        """From a SYN's options, and the listener's."""
        advertised, limit = mtu - HEADERS[ipv6], options.get("TCP_MAXSEG", 0)
        if limit:
            advertised = min(advertised, limit)
        stamps = said.stamps is not None and bool(sysctls.tcp_timestamps)
        scaling = said.window_scale is not None and bool(sysctls.tcp_window_scaling)
        window, scale = offer(
            advertised - (STAMPS_SIZE if stamps else 0), scaling=scaling, sysctls=sysctls,
            buffer=options.get("SO_RCVBUF", 0),
        )  # fmt: skip
        theirs = said.mss if said.mss is not None else _NO_MSS_SAID[ipv6]
        return cls(
            mss=max(sysctls.tcp_min_snd_mss, min(theirs, advertised)),  # __tcp_mtu_to_mss
            our_mss=advertised,
            window=window,
            scale_in=scale if scaling else None,
            scale_out=(said.window_scale or 0) if scaling else 0,
            stamps=stamps,
            sack=said.sack_permitted and bool(sysctls.tcp_sack),
        )


def offer(mss: int, *, scaling: bool, sysctls: Sysctls, buffer: int = 0) -> tuple[int, int]:
    """The first window, in bytes, and its scale (tcp_select_initial_window).

    ``buffer`` is SO_RCVBUF, beyond which the window will not grow; 0 for none.
    """
    full = (buffer or sysctls.tcp_rmem_default) // 2  # half is for the kernel's own records
    space = full
    if space > mss > 0:
        space -= space % mss
    if not scaling:
        return min(space, _UNSCALED), 0
    most = full if buffer else max(space, sysctls.tcp_rmem_max, sysctls.rmem_max)
    scale = min(max(most.bit_length() - 16, 0), MAX_WINDOW_SCALE)
    return space, scale


@dataclass(slots=True, eq=False)
class Request:
    """``listener`` is the one that it refers to, listening or not (rsk_listener)."""

    cookie: int
    path: Path
    flow: bytes
    hash: int
    listener: Listener
    irs: Seq
    iss: Seq
    terms: Terms
    ts_recent: int = 0
    ts_offset: int = 0
    first_stamp: int | None = None  # TSval of the first SYN-ACK
    last_stamp: int = 0
    sent_at: float = 0.0
    retransmitted: bool = False
    timeouts: int = 0
    early: int = 0  # bytes that came with the SYN and were taken
    acked: bool = False  # an ACK came for which there was no child yet
    fast_open: bytes | None = None  # a cookie to be given with the next SYN-ACK
    experimental: bool = False  # in the option that was Fast Open's before it had its own
    saved_syn: bytes | None = None
    child: Connection | None = None  # of a Fast Open request, until it is accepted
    answered_at: float = -inf  # the last answer to a segment out of the window
    due: float = inf
    wake: float = inf
