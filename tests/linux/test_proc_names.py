"""Names, users and trees that /proc tells in less than obvious ways."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.linux.unprivileged import NOBODY, as_nobody
from tests.waiting import PATIENCE

from segue.linux import proc


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("sleep", "sleep"),
        ("/usr/sbin/haproxy", "haproxy"),
        ("nginx: worker process", "nginx"),
        ("gunicorn: master [app]", "gunicorn"),
        ("/usr/local/bin/uwsgi --http :80", "uwsgi"),
        ("-bash", "-bash"),
        ("/", "/"),
        (" ", " "),
    ],
)
def test_the_program_of_a_first_argument(argument: str, name: str) -> None:
    """Its base name, also where a server tells there what it does."""
    assert proc.program(argument) == name


def test_a_process_without_arguments_has_the_kernels_name() -> None:
    """As of a kernel thread or, here, a zombie."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert proc.command_line(pid) == ()
    assert proc.command(pid) == "true"
    os.waitpid(pid, 0)


@pytest.mark.root
def test_the_user_of_a_process() -> None:
    """The effective one; also of a process that gave up root, whose directory is root's."""
    assert proc.uid(os.getpid()) == os.geteuid()
    assert as_nobody(lambda: proc.uid(os.getpid())) == NOBODY
    with subprocess.Popen(["true"]) as process:
        pass
    assert proc.uid(process.pid) is None


def test_an_orphan_that_an_ancestor_adopts_is_listed_once() -> None:
    """It may show under its parent and, an instant later, under who adopted it."""
    told = {1: (2, 3), 2: (4,), 3: (4, 2)}
    assert proc.descend(1, lambda pid: told.get(pid, ())) == (1, 2, 3, 4)


def test_children_without_the_children_file_are_the_same() -> None:
    """By parent, as on a kernel without CONFIG_PROC_CHILDREN."""
    code = "import subprocess; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert proc._children_by_parent(process.pid) == proc.children(process.pid) == (child,)
        process.communicate(b"", timeout=PATIENCE)
