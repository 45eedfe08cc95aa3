"""Names of kernel settings that are not simply their path."""

from __future__ import annotations

import pytest

from segue.errors import NotSupported
from segue.linux import sysctl


def test_an_interface_with_a_dot_is_written_with_a_slash() -> None:
    """As sysctl(8) does; so no name leads out of /proc/sys either."""
    assert (
        sysctl._path("net.ipv4.conf.eth0/7.rp_filter") == "/proc/sys/net/ipv4/conf/eth0.7/rp_filter"
    )
    assert ".." not in sysctl._path("../../etc/passwd").split("/")


@pytest.mark.parametrize("name", ["net.ipv4", "net.ipv4.ip_forward.more", ""])
def test_a_folder_is_no_setting(name: str) -> None:
    """Nor is what is below a setting."""
    with pytest.raises(NotSupported, match="a kernel that has this setting"):
        sysctl.read(name)
