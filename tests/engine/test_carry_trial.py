"""Whether connections can be carried here, found by carrying one."""

from __future__ import annotations

import pytest
from tests.linux.unprivileged import as_nobody

from segue.engine import carry_facts
from segue.engine.carry_trial import try_carry
from segue.errors import NotSupported
from segue.linux import sysctl

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


@pytest.mark.kernel("6.9")
def test_one_is_carried_in_a_namespace_of_its_own() -> None:
    """It reaches the other listener and wakes it, and both ends go on."""
    trial = try_carry()
    assert (trial.migrated, trial.woken, trial.error) == (True, True, "")
    assert trial.where == "in a namespace of its own"


def test_the_setting_of_this_namespace_counts() -> None:
    """A namespace of its own would have another."""
    sysctl.write("net.ipv4.tcp_syncookies", "0")
    assert "tcp_syncookies is 0" in try_carry().error


def test_without_a_capability_it_is_said() -> None:
    """By what the kernel refused, with what is needed."""
    errors: list[str] = []

    def ask() -> None:
        errors.append(try_carry().error)
        assert "CAP_BPF" in errors[0]

    as_nobody(ask)


@pytest.mark.kernel("6.9")
def test_a_kernel_without_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the release that has it."""
    monkeypatch.setattr("segue.engine.carry_classifier.FUNCTION", "bpf_sk_assign_none")
    assert "bpf_sk_assign_none needs Linux 6.9 or later" in try_carry().error


def test_a_kernel_that_does_not_describe_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with the option that is missing."""
    monkeypatch.setattr(carry_facts, "_TYPES", "/sys/none")
    assert "CONFIG_DEBUG_INFO_BTF" in try_carry().error
    with pytest.raises(NotSupported):
        carry_facts.types()
