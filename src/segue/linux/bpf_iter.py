"""BPF iterators: a program that the kernel runs for each file that a process has open.

What the program writes is read as from a file.  Needs CAP_BPF and CAP_PERFMON, and Linux 6.1 for
the files of one process alone.
"""

from __future__ import annotations

import ctypes

from segue.linux import bpf_attr
from segue.linux.bpf import Descriptor, Program, address, require
from segue.linux.bpf_attr import BpfCommand

FILES = "bpf_iter_task_file"  # the kernel's function that stands for this iterator
_PIECE = 1 << 18


def of_files(program: Program, pid: int) -> bytes:
    """What the program writes over the files of a process, in the order of their numbers.

    b"" when there is no such process any more.  Raises KernelError.
    """
    doing = f"going through the files of process {pid}"
    said = bpf_attr.iterator_info(pid)
    info = ctypes.create_string_buffer(said, len(said))
    attributes = bpf_attr.link_iterator(program.fileno(), address(info), len(said))
    pieces = []
    with Descriptor(require(BpfCommand.LINK_CREATE, attributes, doing)) as link:
        made = require(BpfCommand.ITER_CREATE, bpf_attr.iter_create(link.fileno()), doing)
        with open(made, "rb", buffering=0) as reader:
            while piece := reader.read(_PIECE):
                pieces.append(piece)
    return b"".join(pieces)
