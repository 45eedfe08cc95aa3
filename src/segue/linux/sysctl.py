"""Kernel settings by dotted name (proc_sys(5)), of the calling thread's network namespace."""

from __future__ import annotations

import errno

from segue.errors import KernelError, NotSupported


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


def read(name: str) -> str:
    """The value without its line end.  Raises NotSupported when this kernel has no such setting."""
    try:
        with open(_path(name), encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        raise NotSupported(name, "a kernel that has this setting", "none of that name") from None
    except OSError as error:
        raise KernelError("read", error.errno or 0, f"reading {name}") from error


def write(name: str, value: str) -> None:
    """Set it.  Raises NotSupported when there is none, KernelError: EACCES or EPERM without the
    capability, EINVAL when the kernel does not take the value.
    """
    try:
        with open(_path(name), "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        raise NotSupported(name, "a kernel that has this setting", "none of that name") from None
    except OSError as error:
        allowed = error.errno not in {errno.EPERM, errno.EACCES}
        advice = "" if allowed else "it needs CAP_NET_ADMIN in this network namespace"
        raise KernelError("write", error.errno or 0, f"setting {name}", advice) from error
