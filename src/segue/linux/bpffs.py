"""The bpf file system, in which pinned programs and maps have names (bpf(2), BPF_OBJ_PIN)."""

from __future__ import annotations

import ctypes
import os

_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC, include/uapi/linux/magic.h
_STATFS_BYTES = 256  # more than struct statfs has anywhere

_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(path: str) -> bool:
    """The path exists and is in a mounted bpf file system."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), found) != 0:
        return False
    kind = ctypes.c_long.from_buffer(found).value  # f_type comes first
    return kind & 0xFFFFFFFF == _MAGIC
