"""What it costs to note what clients and servers send: nanoseconds a run, as the kernel counts.

The kernel counts time and runs of every program while somebody holds a descriptor for that
(BPF_ENABLE_STATS), which costs some nanoseconds a run itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bench.case import Case, Sample, Tally
from bench.harness import free_port
from bench.table import Column, Row
from segue.address import Address
from segue.engine.carry import Carrier
from segue.errors import KernelError
from segue.linux.bpf import obj_info, syscall_number
from segue.linux.bpf_attr import AttachType
from segue.linux.sockopt import open_listener

_ENABLE_STATS = 32  # of bpf(2)
_TIME_AT = 192  # run_time_ns and run_cnt in struct bpf_prog_info
_HEAD = b"GET / HTTP/1.1\r\nHost: here\r\nAccept: text/html\r\nCookie: %s\r\n\r\n"
_BULK = 65_536
REQUESTS = {
    "an answer's acknowledgement": b"",
    "a request of 70 bytes": _HEAD % (b"1" * 6),
    "a request of 400 bytes": _HEAD % (b"1" * 336),
    "a request of 1,000 bytes": _HEAD % (b"1" * 936),
    "64 KB behind the beginning of a request": b"x" * _BULK,
}


_ASKED = REQUESTS["a request of 70 bytes"]
_LENGTH = (
    b"HTTP/1.1 200 OK\r\nServer: here\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
)
_CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "an answer of 100 bytes": _LENGTH % 20 + bytes(20),
    "an answer of 1,000 bytes": _LENGTH % 920 + bytes(920),
    "an answer of 100 KB": _LENGTH % 100_000 + bytes(100_000),
    "an answer of one chunk": _CHUNKED + b"14\r\n" + bytes(20) + b"\r\n0\r\n\r\n",
    "a token of a stream": b"14\r\n" + bytes(20) + b"\r\n",
}
_WHOLE = {one for one in ANSWERS.values() if one.startswith(b"HTTP")}


def measure(*, rounds: int = 30, exchanges: int = 300) -> list[Row]:
    """Every round has so many of each."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tally = Tally()
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier(answers=True))
        listener = stack.enter_context(open_listener(Address("127.0.0.1", free_port()), backlog=9))
        carrier.watch(listener)
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = stack.enter_context(listener.accept()[0])
        programs = carrier._programs  # noqa: SLF001 - only this asks for them
        filter_, sent = (
            programs._filter.fileno(),  # noqa: SLF001
            programs._classifiers[14, AttachType.TCX_EGRESS].fileno(),  # noqa: SLF001
        )
        with _counted():
            for number in range(rounds + 1):
                for name, request in REQUESTS.items():
                    before = _spent(filter_)
                    for _ in range(exchanges):
                        _exchange(client, server, request)
                    _note(tally, name, filter_, before, exchanges if number else 0)
                for name, answer in ANSWERS.items():
                    _exchange(client, server, _ASKED, answer if answer in _WHOLE else _CHUNKED)
                    before = _spent(sent)
                    for _ in range(exchanges):
                        request = _ASKED if answer in _WHOLE else b""
                        _exchange(client, server, request, answer)
                    _note(tally, name, sent, before, exchanges if number else 0)
    return tally.rows()


def _note(tally: Tally, name: str, program: int, before: tuple[int, int], exchanges: int) -> None:
    """What so many exchanges have cost; none: they were to warm up."""
    spent, runs = (b - a for a, b in zip(before, _spent(program), strict=True))
    if exchanges:
        tally.add(name, Sample({"ns": spent / runs, "runs": runs / exchanges}, {}))


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    kind = ctypes.c_uint32(0)  # BPF_STATS_RUN_TIME
    descriptor = libc.syscall(syscall_number(), _ENABLE_STATS, ctypes.byref(kind), 4)
    if descriptor < 0:
        raise KernelError("bpf(BPF_ENABLE_STATS)", ctypes.get_errno(), "counting runs")
    try:
        yield
    finally:
        os.close(descriptor)


def _spent(program: int) -> tuple[int, int]:
    """Nanoseconds and runs."""
    data = obj_info(program, _TIME_AT + 16)
    spent, runs = struct.unpack_from("=QQ", data, _TIME_AT)
    return spent, runs


def _exchange(
    client: socket.socket,
    server: socket.socket,
    request: bytes,
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
) -> None:
    client.sendall(request)
    left = len(request)
    while left:
        left -= len(server.recv(left))
    if len(request) < _BULK:
        server.sendall(answer)
        left = len(answer)
        while left:
            left -= len(client.recv(left))


def _said(_: Sequence[Row]) -> list[str]:
    return [
        (
            "A run is for a segment, or for what is put together of several (GRO, GSO). Runs of an"
            " answer are those for both directions: what a client sends goes out at loopback too."
        )
    ]


CASE = Case(
    "carry-filter",
    "What it costs to note what clients send, and how far servers are with their answers",
    "One thread is client and server on one core, over loopback; 30 rounds of 300 exchanges of each"
    " kind. What the counting itself costs is in it.",
    measure,
    (
        Column("ns", "ns a run", digits=0),
        Column("runs", "runs an exchange", digits=2),
    ),
    _said,
    quick={"rounds": 3},
)
