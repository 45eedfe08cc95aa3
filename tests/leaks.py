"""What the tests of one process could leave behind, and a place of its own to look for it.

Another run of the suite, or anybody, may start programs, pin maps and make namespaces meanwhile.
So nothing is looked for where all of them would show: a process is ours by its ancestors, a bpf
object and a namespace by our descriptor, a pin and a mount by the mount namespace that only our
processes are in.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
from collections.abc import Iterator

from segue.linux import proc

PINS = "/sys/fs/bpf"
_CLONE_NEWNS = 0x20000


def isolate() -> bool:
    """This thread, and what it starts, in a mount namespace of its own with no pins in it.

    False, with nothing changed, where this user may not make one: he can pin and mount nothing.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        return False
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    if os.path.isdir(PINS):
        subprocess.run(["mount", "-t", "bpf", "bpf", PINS], check=True)
    return True


def present(*, isolated: bool) -> dict[str, set[str]]:
    """Processes, bpf objects, namespaces, and in a mount namespace of our own pins and mounts.

    A program or map lives only by a descriptor, a pin, or a listener of a living process; a
    network namespace by a descriptor, a mount, or a process.
    """
    open_here = descriptors()
    found = {
        "processes": {
            f"{pid} {' '.join(proc.command_line(pid))}"
            for pid in proc.tree(os.getpid())[1:]
            if proc.run_state(pid) is not None
        },
        "bpf objects": {name for name in open_here if "bpf" in name},
        "namespaces": {name for name in open_here if " net:[" in name},
    }
    if isolated:
        found["pins"] = set(_pins())
        found["mounts"] = _mounts()
    return found


def more(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is there after and was not before, by kind; {} when nothing is."""
    return {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]}


def descriptors() -> set[str]:
    """Each that is open in this process, by its number and file.

    What is only garbage is closed first: it would be at any moment, perhaps between two looks.
    """
    gc.collect()
    return set(_descriptors())


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{number}"):  # not the one that listed them
            yield f"{number} {os.readlink(f'/proc/self/fd/{number}')}"


def _pins() -> Iterator[str]:
    for directory, directories, files in os.walk(PINS):
        yield from (os.path.join(directory, name) for name in directories + files)


def _mounts() -> set[str]:
    with open("/proc/thread-self/mountinfo", encoding="utf-8") as lines:
        return {line.split(" ")[4] for line in lines}
