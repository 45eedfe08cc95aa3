"""What is said of a worker that accepts nothing."""

from __future__ import annotations

from segue.supervisor.workers.reasons import Member, sentence

SHELL = Member(7, "sh", "dash", None)
ADVICE = "write {fd} in the command, or exec the server"


def test_where_a_server_listens_instead_is_said() -> None:
    """The worker itself, or a process below it; one that listens nowhere is no news."""
    assert sentence([Member(7, "python3", "py", listens=("0.0.0.0:8081", "[::]:8081"))]) == (
        "pid 7 (python3) listens at 0.0.0.0:8081 and [::]:8081"
    )
    assert sentence([Member(7, "python3", "py")]) == sentence([]) == ""


def test_one_that_binds_the_port_itself_is_told_how_it_is_run() -> None:
    """It has the listener that it was given, and another one of its own at that port."""
    member = Member(7, "python3", "py", 7, ("[::]:8080",), beside=True)
    assert sentence([member]) == (
        "pid 7 (python3) listens at [::]:8080; it has opened that itself, and has not taken the"
        " listener that it was given: give --bind-by worker, or have it take descriptor 3 ({fd})"
    )


def test_a_listener_that_was_closed_is_said() -> None:
    """By the worker, or by a wrapper whose server is still loading."""
    closed = Member(7, "python3", "py", holds=False)
    assert sentence([closed]) == "it has closed the listener that it was given"
    assert sentence([closed, Member(8, "node", "node", 7, holds=False)]) == sentence([closed])
    assert sentence([closed, Member(8, "python3", "py", 7)]) == "", "a child may still accept"


def test_a_wrapper_between_is_named() -> None:
    """LISTEN_PID is that of the shell, and the server below it is another process."""
    master = Member(8, "gunicorn", "py", 7, ("127.0.0.1:8000",))
    children = [Member(pid, "gunicorn", "py", 7, master.listens) for pid in (9, 10)]
    assert sentence([SHELL, master, *children]) == (
        "pid 8 (gunicorn) listens at 127.0.0.1:8000; LISTEN_PID is of pid 7 (sh), and the server is"
        f" pid 8 (gunicorn): {ADVICE}"
    )


def test_a_wrapper_of_the_server_s_own_program_is_named() -> None:
    """It is npm, which runs a shell, which runs node."""
    node = Member(9, "node", "node", 7, ("[::]:3000",))
    tree = [Member(7, "npm", "node"), Member(8, "sh", "dash", 7), node]
    assert "LISTEN_PID is of pid 7 (npm), and the server is pid 9 (node)" in sentence(tree)


def test_processes_of_a_server_s_own_are_no_wrapper() -> None:
    """They have its LISTEN_PID by right; one that listens nowhere may be loading."""
    listens = ("127.0.0.1:9",)
    tree = [Member(7, "gunicorn", "py", 7), Member(8, "gunicorn", "py", 7, listens)]
    assert "LISTEN_PID" not in sentence(tree)
    assert "LISTEN_PID" not in sentence([SHELL, Member(8, "gunicorn", "py", None, listens)])
    assert sentence([SHELL, Member(8, "gunicorn", "py", 7)]) == ""


def test_a_wrapper_that_passes_no_descriptors_on_is_named() -> None:
    """As npm: to write {fd} would not help."""
    node = Member(9, "node", "node", 7, ("127.0.0.1:3000",), holds=False)
    tree = [Member(7, "npm", "node"), Member(8, "sh", "dash", 7, holds=False), node]
    assert sentence(tree) == (
        "pid 9 (node) listens at 127.0.0.1:3000; pid 7 (npm) has not passed its descriptors on to"
        " pid 9 (node): exec the server without it, or use --bind-by worker"
    )
