"""What Segue says where the kernel has no tcp_diag: its module is taken out for that long."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import ROOT, Server, free_port, program

NAMED = "tcp_diag (CONFIG_INET_TCP_DIAG)"
_LOADER = Path("/proc/sys/kernel/modprobe")
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Expected:
    """How a command ends; whether the module is named, and in one line."""

    exit_code: int
    named: bool = True
    one_line: bool = True


# {port} is that of a server which is not Segue's.
COMMANDS = {
    "doctor": Expected(1, one_line=False),
    "run --bind 127.0.0.1:1 -- true": Expected(1),
    "status": Expected(2, named=False),
    "attach 127.0.0.1:{port}": Expected(1),
    "rescue 127.0.0.1:{port}": Expected(1),
    "audit 127.0.0.1:{port}": Expected(1),
    "probe http://127.0.0.1:{port}/ --count 5 --rate 5": Expected(0, named=False, one_line=False),
}


def tcp_diag() -> dict[str, Any]:
    """What each command said, and what of that is not as it should be.

    Raises RuntimeError outside a virtual machine of ours: the modules of a host are its own.
    """
    if not Path("/job/command").exists():
        raise RuntimeError("the modules of this host are left alone")
    port = free_port()
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
    with Server([*server, "--protocol", "HTTP/1.1", str(port)], port), _taken_out():
        said = {words: _ask(words.format(port=port)) for words in COMMANDS}
    untold = [
        f"without tcp_diag, segue {words}: {why}"
        for words, (code, text) in said.items()
        if (why := fault(COMMANDS[words], code, text))
    ]
    return {"said": {words: text for words, (_, text) in said.items()}, "untold": untold}


def fault(expected: Expected, code: int, text: str) -> str:
    """What is not as expected, or nothing."""
    lines = text.strip().splitlines()
    if "Traceback" in text:
        return f"a traceback: {lines[-1]}"
    if code != expected.exit_code:
        return f"the exit code was {code}: {' '.join(lines)[-300:]}"
    if expected.named and NAMED not in " ".join(lines):
        return f"the module is not named: {' '.join(lines)[:300]}"
    if expected.one_line and len(lines) != 1:
        return f"{len(lines)} lines, and not one: {' '.join(lines)[:300]}"
    return ""


@contextlib.contextmanager
def _taken_out() -> Iterator[None]:
    """The kernel has the module no more, and cannot load it."""
    loader = _LOADER.read_text()
    _LOADER.write_text("/bin/false\n")
    try:
        subprocess.run(["modprobe", "-r", "tcp_diag"], check=True)
        yield
    finally:
        _LOADER.write_text(loader)


def _ask(words: str) -> tuple[int, str]:
    done = subprocess.run(
        [program("segue"), *words.split()],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout
