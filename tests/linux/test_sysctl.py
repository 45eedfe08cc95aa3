"""Kernel settings of this thread's network namespace."""

from __future__ import annotations

import pytest
from tests.linux.unprivileged import as_nobody

from segue.errors import KernelError, NotSupported
from segue.linux import sysctl

MIGRATE = "net.ipv4.tcp_migrate_req"


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_what_is_written_is_read() -> None:
    """In the test's own namespace, which begins with the kernel's default."""
    assert sysctl.read(MIGRATE) == "0"
    sysctl.write(MIGRATE, "1")
    assert sysctl.read(MIGRATE) == "1"


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_a_value_the_kernel_does_not_take() -> None:
    """The setting keeps its value."""
    with pytest.raises(KernelError, match=f"setting {MIGRATE}: write failed with EINVAL"):
        sysctl.write(MIGRATE, "2")
    assert sysctl.read(MIGRATE) == "0"


@pytest.mark.root
def test_a_setting_this_kernel_does_not_have() -> None:
    """Said as what is not supported, reading and writing."""
    with pytest.raises(NotSupported, match=r"net\.ipv4\.no_such"):
        sysctl.read("net.ipv4.no_such")
    with pytest.raises(NotSupported, match=r"net\.ipv4\.no_such"):
        sysctl.write("net.ipv4.no_such", "1")


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_without_the_capability_it_is_refused() -> None:
    """Reading is everybody's; writing says what it needs."""

    def work() -> list[str]:
        seen = sysctl.read(MIGRATE)
        try:
            sysctl.write(MIGRATE, "1")
        except KernelError as error:
            return [seen, str(error)]
        return [seen, ""]

    seen, refusal = as_nobody(work)
    assert seen == "0"
    assert "it needs CAP_NET_ADMIN in this network namespace" in refusal
