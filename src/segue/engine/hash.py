"""The engine of a host where net.ipv4.tcp_migrate_req is on and eBPF is not to be had.

New connections are steered as by ``drain``; what a closing listener holds is migrated by the
kernel's hash over every listener of the group, old ones included, until none of those is left.
"""

from __future__ import annotations

from segue.engine.drain import Drain


class Hash(Drain):
    """Drain's steering with the kernel's own migration."""

    name = "hash"
    migrates = True
