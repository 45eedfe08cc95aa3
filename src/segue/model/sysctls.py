"""The settings of a network namespace that matter to a listening side (ip-sysctl.rst).

Under the kernel's names and with its defaults; a running model reads them at each use.
"""

from __future__ import annotations

from dataclasses import dataclass

# Bits of tcp_fastopen (include/net/tcp.h).
FAST_OPEN_SERVER = 0x2
FAST_OPEN_WITHOUT_COOKIE = 0x200
FAST_OPEN_EVERY_LISTENER = 0x400


@dataclass(slots=True)
class Sysctls:
    """May be changed at any time."""

    tcp_migrate_req: int = 0
    tcp_syncookies: int = 1
    tcp_synack_retries: int = 5
    tcp_abort_on_overflow: int = 0
    tcp_max_syn_backlog: int = 2048
    somaxconn: int = 4096
    tcp_fastopen: int = 1
    tcp_fastopen_key: str = ""  # of hexadecimal words, one key or two; empty: one by chance
    tcp_timestamps: int = 1
    tcp_sack: int = 1
    tcp_ecn: int = 2  # 0: never; else where the client asks for it
    tcp_window_scaling: int = 1
    tcp_fin_timeout: int = 60
    tcp_max_tw_buckets: int = 131072  # those of a host with some GB of memory, as are orphans
    tcp_max_orphans: int = 131072
    tcp_min_snd_mss: int = 48
    tcp_retries2: int = 15
    tcp_orphan_retries: int = 8  # what 0 means (tcp_orphan_retries in net/ipv4/tcp_timer.c)
    tcp_rmem_default: int = 131072
    tcp_rmem_max: int = 6291456
    tcp_moderate_rcvbuf: int = 1
    tcp_wmem_default: int = 0  # 0: writes have room for tcp_wmem_max bytes, whatever they take
    tcp_wmem_max: int = 4194304
    tcp_notsent_lowat: int = 0xFFFFFFFF
    tcp_min_tso_segs: int = 2
    tcp_slow_start_after_idle: int = 1
    wmem_max: int = 4194304  # net.core's
    rmem_max: int = 4194304  # net.core's
