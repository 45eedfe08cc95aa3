"""Kernel settings by dotted name (proc_sys(5)).

Those under ``net`` are of the calling thread's network namespace.
"""

from __future__ import annotations

import errno

from segue.errors import KernelError, NotSupported

_ADVICE = {
    errno.EPERM: "it needs CAP_NET_ADMIN in this network namespace, or root",
    errno.EACCES: "it needs CAP_NET_ADMIN in this network namespace, or root",
    errno.EROFS: "/proc/sys is mounted read-only, as containers have it: set it from the host",
    errno.EINVAL: "the kernel does not take this value",
}
# As sysctl(8) has it: an interface called eth0.7 is written eth0/7.
_SWAP = str.maketrans("./", "/.")


def _path(name: str) -> str:
    return "/proc/sys/" + name.translate(_SWAP)


def read(name: str) -> str:
    """The value without its line end.

    Raises NotSupported when this kernel has no such setting, KernelError: EACCES when it is for
    root's eyes only.
    """
    try:
        with open(_path(name), encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise _refusal("read", name, error) from error


def somaxconn() -> int:
    """The largest backlog that listen(2) gives a listener; a number above all if it is not told."""
    try:
        return int(read("net.core.somaxconn"))
    except (NotSupported, KernelError):
        return (1 << 31) - 1


def write(name: str, value: str) -> None:
    """Set it.

    Raises NotSupported when this kernel has no such setting, KernelError: EACCES or EPERM without
    the capability, EROFS in most containers, EINVAL when the kernel does not take the value.
    """
    try:
        with open(_path(name), "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise _refusal("write", name, error) from error


def _refusal(call: str, name: str, error: OSError) -> NotSupported | KernelError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}:
        return NotSupported(name, "a kernel that has this setting", "none of that name")
    doing = f"reading {name}" if call == "read" else f"setting {name}"
    return KernelError(call, error.errno or 0, doing, _ADVICE.get(error.errno or 0, ""))
