"""What a person at a terminal sees of a command that takes its time, and in which colours."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

# A block that lasts until its line has been written, and prints a sentence in it.
SLOW = """
import sys, threading
from segue.cli.shared import progress, telling
shown = threading.Event()
write = progress._write
def written(text):
    write(text)
    if "s" in text:
        shown.set()
progress._write = written
with progress.progress("waiting for web"):
    assert shown.wait(20)
    telling.tell("a sentence", err=True)
telling.tell("the end", err=True)
"""


def on_a_terminal(*command: str, **more: str) -> bytes:
    """What such a program prints there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **more}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        said = b""
        while process.poll() is None or said[-1:] != b"\n":
            try:
                said += os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                break
    os.close(ours)
    return said.replace(b"\r\n", b"\n")


def test_a_second_of_work_is_told_on_a_terminal() -> None:
    """In one line that is gone when something else is printed, and at the end."""
    said = on_a_terminal(sys.executable, "-c", SLOW)
    assert said.startswith(b"\r\x1b[Kwaiting for web: 1 s")
    assert b"\r\x1b[Ka sentence\n" in said
    assert said.endswith(b"the end\n")


def test_elsewhere_nothing_is_told_of_it() -> None:
    """Neither into a pipe, nor on a terminal that cannot erase."""
    quick = SLOW.replace("assert shown.wait(20)", "pass")
    piped = subprocess.run([sys.executable, "-c", quick], capture_output=True, check=True)
    assert piped.stderr == b"a sentence\nthe end\n"
    dumb = on_a_terminal(sys.executable, "-c", quick, TERM="dumb")
    assert dumb == b"a sentence\nthe end\n"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_heeded(no_color: str) -> None:
    """Colours are left out, as no-color.org asks; what is bold may stay."""
    draw = (
        "from segue.cli.shared.console import output_console\n"
        "output_console().print('[red]no[/] [bold]really[/]')"
    )
    said = on_a_terminal(sys.executable, "-c", draw, NO_COLOR=no_color)
    assert (b"\x1b[31m" in said) is not bool(no_color)
