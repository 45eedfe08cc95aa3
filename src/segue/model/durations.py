"""How long things take, in seconds (include/net/tcp.h unless another source is named)."""

from __future__ import annotations

TIMEOUT_INIT = 1.0  # of a SYN-ACK, and where no round trip is known of a tail (RFC 6298, 2.1)
TIMEOUT_FALLBACK = 3.0  # where the handshake has not told the round trip (RFC 6298, 5.7)
RTO_MAX = 120.0
RTO_MIN = 0.2
PROBE_MIN = 0.002  # TCP_TIMEOUT_MIN_US
TICK = 0.004  # of the kernel's timers, as it was built (HZ)
DELAYED_ACK = 0.04  # TCP_DELACK_MIN; TCP_ATO_MIN is the same
DELAYED_ACK_MAX = 0.2
TIME_WAIT = 60.0
FAST_OPEN_PENALTY = 60.0  # reqsk_fastopen_remove
COOKIE_PERIOD = 60.0  # a count of SYN cookies
COOKIE_COUNTS = 2  # for how many a cookie is good (MAX_SYNCOOKIE_AGE)
OUT_OF_WINDOW_PAUSE = 0.5  # between answers to the same kind of nonsense (tcp_invalid_ratelimit)
STAMP_TICK = 0.001  # RFC 7323, 5.4


def backed_off(times: int, first: float = TIMEOUT_INIT) -> float:
    """A timeout after it has passed so often without an answer."""
    return min(first * (1 << min(times, 16)), RTO_MAX)


def retransmits_in(seconds: int) -> int:
    """How many SYN-ACKs TCP_DEFER_ACCEPT's seconds stand for (secs_to_retrans)."""
    if seconds <= 0:
        return 0
    count, passed, timeout = 1, 1, 1
    while seconds > passed and count < 255:
        count += 1
        timeout = min(timeout * 2, int(RTO_MAX))
        passed += timeout
    return count
