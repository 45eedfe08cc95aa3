"""Questions about this kernel: the three answers, and what is remembered."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from tests.linux.unprivileged import as_nobody

from segue.errors import KernelError, NotSupported, VerifierError
from segue.linux import bpf, features, sysctl
from segue.linux.features import Answer, Finding


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins and ends with nothing remembered."""
    monkeypatch.setattr(features, "_known", {})


@pytest.mark.root
@pytest.mark.kernel("5.15")
@pytest.mark.parametrize("name", features.FEATURES)
def test_root_can_do_everything_here(name: str) -> None:
    """Each attempt succeeds on a kernel that has it, and says so in a sentence."""
    found = features.ask(name)
    assert found.answer is Answer.YES, found.reason
    assert found
    assert found.reason


def raising(error: Exception) -> Callable[[], str]:
    def attempt() -> str:
        raise error

    return attempt


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (NotSupported("x", "Linux 9", "Linux 8"), Answer.NO),
        (VerifierError(errno.EINVAL, "loading", "no such attach type"), Answer.NO),
        (KernelError("pidfd_getfd", errno.ENOSYS, "trying"), Answer.NO),
        (OSError(errno.ENOPROTOOPT, "no such option"), Answer.NO),
        (KernelError("bpf", errno.EPERM, "trying"), Answer.COULD_NOT_TELL),
        (KernelError("bpf", errno.ENOMEM, "trying"), Answer.COULD_NOT_TELL),
        (OSError(errno.EMFILE, "too many files"), Answer.COULD_NOT_TELL),
    ],
)
def test_what_an_error_says(error: Exception, answer: Answer) -> None:
    """Only the kernel's "there is no such thing" is a no; a lack of means tells nothing."""
    found = features.judge(raising(error))
    assert found == Finding(answer, str(error))
    assert not found


def test_only_certain_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """After could-not-tell the next question tries again; after a yes or no it does not."""
    outcomes = iter([KernelError("x", errno.EPERM, "trying"), NotSupported("x", "a", "b")])

    def attempt() -> str:
        raise next(outcomes)

    monkeypatch.setitem(features.FEATURES, "sock_diag", attempt)
    answers = [features.ask("sock_diag").answer for _ in range(3)]
    assert answers == [Answer.COULD_NOT_TELL, Answer.NO, Answer.NO]


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_a_setting_is_asked_anew() -> None:
    """It may have been changed since, or be that of another network namespace."""
    told = []
    for value in ("0", "1"):
        sysctl.write(features.MIGRATE_SYSCTL, value)
        told.append(features.ask("migrate_sysctl").reason)
    assert told == [f"{features.MIGRATE_SYSCTL} is {value}" for value in (0, 1)]


@pytest.mark.parametrize(
    ("name", "needs"), [("ebpf_reuseport", "Linux 5.14"), ("ebpf_bind", "Linux 5.15")]
)
def test_a_program_that_the_verifier_does_not_know_is_a_no(
    monkeypatch: pytest.MonkeyPatch, name: str, needs: str
) -> None:
    """With the Linux that it needs, and what was said here."""

    def load(*args: object, **named: object) -> bpf.Program:
        raise VerifierError(errno.EACCES, "loading", "invalid bpf_context access off=48 size=8\n")

    monkeypatch.setattr(bpf.Program, "load", load)
    found = features.ask(name)
    assert found.answer is Answer.NO
    assert f"needs {needs} or later; here: invalid bpf_context access off=48" in found.reason


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_an_unprivileged_user_is_told_what_is_his() -> None:
    """Classic BPF, diagnostics and descriptors work for nobody; the rest cannot be told."""

    def work() -> dict[str, str]:
        return {name: features.ask(name).answer.name for name in features.FEATURES}

    told = as_nobody(work)
    yes = {name for name, answer in told.items() if answer == "YES"}
    assert {"reuseport_cbpf", "sock_diag", "migrate_sysctl", "migrate_counters"} <= yes
    assert told["ebpf_reuseport"] == told["own_netns"] == "COULD_NOT_TELL"
    assert os.geteuid() == 0
