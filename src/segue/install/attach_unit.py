"""The unit of systemd for one command line of ``segue attach``.

Every capability is argued in docs/SECURITY.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segue.install.units import (
    HARDENED,
    LOW_PORTS,
    RUNTIME,
    System,
    Written,
    bounded,
    escaped,
    started,
)
from segue.supervisor.attach.settings import AttachSettings


def files(settings: AttachSettings, argv: Sequence[str], system: System) -> list[Written]:
    """The unit for this command line (``argv``, which begins with the path of segue).

    Raises UsageError for a word that no unit can have.
    """
    path = f"/etc/systemd/system/segue-attach-{settings.instance_name}.service"
    text = "".join(f"{line}\n" for line in _lines(settings, argv, system))
    return [Written(path, text, "the service")]


def capabilities(settings: AttachSettings) -> dict[str, str]:
    """What it needs, by name, and what for."""
    found = {"CAP_BPF": "the program that selects listeners"}
    for one in ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"):
        found[one] = "to find the server's listeners in its processes"
    found["CAP_CHOWN"] = "to join the group of another user's listeners, and see if it is steered"
    found["CAP_NET_ADMIN"] = "to compare the listeners' TCP-MD5 keys"
    if settings.address.port < LOW_PORTS:
        found["CAP_NET_BIND_SERVICE"] = "a port below 1024"
    if settings.rescue_after or settings.carry != "off":
        found["CAP_KILL"] = "to hold a process for the milliseconds of a rescue or a carry"
    if settings.carry != "off":
        found["CAP_NET_RAW"] = found["CAP_PERFMON"] = "kept connections are carried"
    if settings.netns:
        found["CAP_SYS_ADMIN"] = "the listeners are in another network namespace (--netns)"
    elif settings.traced:
        found["CAP_SYS_ADMIN"] = "a tracepoint tells of new listeners at once (--no-trace: none)"
    return found


def _lines(settings: AttachSettings, argv: Sequence[str], system: System) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description=Keep the connections of the server at {settings.address} (segue attach)"
    yield ""
    yield "[Service]"
    yield "Type=notify"
    yield from started(argv, system)
    yield "# Meanwhile the program in the kernel keeps working, also after a stop: segue detach"
    yield "# removes it."
    yield "Restart=on-failure"
    yield "LimitNOFILE=524288"
    yield from RUNTIME
    yield ""
    yield from bounded(capabilities(settings))
    yield "NoNewPrivileges=yes"
    yield "# Not ProtectKernelTunables: the program is pinned below /sys/fs/bpf."
    yield from HARDENED
    yield from (
        *("ProtectSystem=strict", "ProtectHome=read-only", "ProtectControlGroups=yes"),
        *(
            "PrivateDevices=yes",
            "PrivateTmp=yes",
            "RestrictNamespaces=net",
            "MemoryDenyWriteExecute=yes",
        ),
        "SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap",
        *("SystemCallErrorNumber=EPERM", "UMask=0077"),
    )
    yield f"ReadWritePaths=-{escaped(settings.bpffs)}"
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"
