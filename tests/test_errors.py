"""The error tree: class, fields and sentence."""

from __future__ import annotations

import errno

from segue.errors import KernelError, NotSupported, UsageError, VerifierError


def test_a_kernel_error_is_an_os_error() -> None:
    """A caller may catch OSError and look at errno, as after any system call."""
    error = KernelError("bind", errno.EADDRINUSE, "binding 127.0.0.1:80", "stop the other one")
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRINUSE
    assert error.name == "EADDRINUSE"
    assert str(error).startswith("binding 127.0.0.1:80: bind failed with EADDRINUSE")
    assert str(error).endswith("; stop the other one")


def test_a_verifier_error_shows_the_line_that_matters() -> None:
    """The reason stands above the closing statistics; the whole log stays in a field."""
    log = "0: (b7) r0 = 1\nR1 invalid mem access 'scalar'\nprocessed 2 insns\n"
    error = VerifierError(errno.EACCES, "loading a program", log)
    assert error.summary == "R1 invalid mem access 'scalar'"
    assert error.log == log
    assert "R1 invalid" in str(error)


NEW_LOG = """0: R1=ctx() R10=fp0
0: (bf) r0 = r6
R6 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R6 has never been initialized on this path, so the verifier cannot use it as an input.

Suggestion:
  Initialize R6 on every path before this instruction.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_a_log_that_ends_with_advice_has_its_reason_before_it() -> None:
    """As from Linux 7.3 on, where an explanation of several lines follows the reason."""
    assert VerifierError(errno.EACCES, "loading a program", NEW_LOG).summary == "R6 !read_ok"
    only_advice = NEW_LOG[NEW_LOG.index("Verification") :]
    assert "gave no reason" in VerifierError(errno.EACCES, "loading", only_advice).summary


def test_usage_errors_exit_with_2() -> None:
    """The convention of getopt, argparse and click."""
    assert UsageError("x").exit_code == 2
    assert "needs Linux 5.14" in str(NotSupported("migration", "Linux 5.14", "5.10"))
