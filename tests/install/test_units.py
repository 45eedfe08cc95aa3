"""The files of ``segue install``: pure text from settings."""

from __future__ import annotations

import configparser

import pytest
from tests.supervisor.instance import ROOT

from segue.address import Address
from segue.errors import UsageError
from segue.install import attach_unit
from segue.install.units import System, capabilities, files
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.settings import Bind, Settings

SYSTEM = System(systemd=255, somaxconn=4096, directory="/srv/shop")
ARGV = ("/usr/bin/segue", "run", "--bind", "0.0.0.0:80", "--", "uvicorn", "app:app")


def settings(*binds: str, **more: object) -> Settings:
    parsed = tuple(Bind.parse(text, n) for n, text in enumerate(binds or ("0.0.0.0:8080",)))
    return Settings(parsed, ("/usr/bin/uvicorn", "app:app"), **more)  # type: ignore[arg-type]


def unit(text: str) -> dict[str, str]:
    """The directives of a unit whose names are all different, after [Unit]."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return {key: value for part in parser.sections()[1:] for key, value in parser[part].items()}


def service(of: Settings, argv: tuple[str, ...] = ARGV, system: System = SYSTEM) -> dict[str, str]:
    return unit(files(of, argv, system)[0].text)


def test_limits_of_the_manager_are_longer_than_ours() -> None:
    """Who kills first says less."""
    found = service(settings(drain_timeout=60.0, stop_timeout=5.0, stop_delay=3.0))
    assert float(found["TimeoutStopSec"]) > 68
    assert float(service(settings(stop_limit=20.0))["TimeoutStopSec"]) == 25
    assert float(service(settings(ready_timeout=90.0, start_retry=30.0))["TimeoutStartSec"]) > 120


@pytest.mark.parametrize(("systemd", "kind"), [(252, "notify"), (253, "notify-reload")])
def test_a_reload_is_waited_for_where_systemd_can(systemd: int, kind: str) -> None:
    """Before 253 it is a signal."""
    found = service(settings(), system=System(systemd, 4096, "/srv"))
    assert found["Type"] == kind
    assert ("ExecReload" in found) is (kind == "notify")


def test_listeners_are_kept_over_the_death_of_everything() -> None:
    """Where systemd has not opened them itself, and they are ours to keep."""
    both = settings("0.0.0.0:80", "[::1]:81")
    found = service(both)
    assert found["FileDescriptorStoreMax"] == "2"
    assert "Environment" not in found
    assert service(both, system=System(253, 4096, "/srv"))["Environment"] == "FDSTORE=2"
    others = [files(both, ARGV, SYSTEM, sockets=True)[0].text]
    others += [files(settings(**more), ARGV, SYSTEM)[0].text for more in (
        {"bind_by": "worker"}, {"beside": True})]  # fmt: skip
    assert all("FileDescriptorStoreMax" not in text for text in others)


def test_capabilities_are_bounded_where_workers_are_another_users() -> None:
    """Workers of root may need any: a server that changes its user itself, for example."""
    assert "CapabilityBoundingSet" not in service(settings())
    found = service(settings("0.0.0.0:80", user="www-data"))["CapabilityBoundingSet"].split()
    assert {"CAP_BPF", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"} <= set(found)
    assert "CAP_SYS_ADMIN" not in found


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, {"CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON"}),
        ({"engine": "drain", "carry": "off"}, set()),
        ({"carry": "off"}, {"CAP_BPF"}),
        ({"carry": "off", "metrics": "127.0.0.1:9464"}, {"CAP_BPF"}),
        ({"carry": "off", "metrics": "textfile:/x"}, {"CAP_BPF", "CAP_DAC_OVERRIDE"}),
        (
            {"carry": "off", "keep_capability": ("net_bind_service",)},
            {"CAP_BPF", "CAP_NET_BIND_SERVICE"},
        ),
    ],
)
def test_each_capability_has_a_setting_that_needs_it(
    more: dict[str, object], needed: set[str]
) -> None:
    """And a reason."""
    found = capabilities(settings(**more))
    assert set(found) == needed
    assert all(found.values())


def test_a_word_reaches_the_program_as_it_was() -> None:
    """Specifiers, variables, quotes, spaces, and nothing at all."""
    words = ("50%", "$HOME", 'a "b"', "back\\slash", "", "a b", "{fd}")
    line = service(settings(), (*ARGV, *words))["ExecStart"]
    assert line.endswith(r'"50%%" "$$HOME" "a \"b\"" "back\\slash" "" "a b" {fd}')
    with pytest.raises(UsageError, match="line end"):
        files(settings(), ("segue", "a\nExecStartPost=/bin/evil"), SYSTEM)


def test_listeners_of_systemd_are_a_unit_of_their_own() -> None:
    """The service waits for it."""
    of = settings("0.0.0.0:80", "[::1]:81", backlog=512)
    main, socket = files(of, ARGV, SYSTEM, sockets=True)
    assert socket.path == "/etc/systemd/system/segue-0.0.0.0_80.socket"
    assert "ListenStream=0.0.0.0:80\nListenStream=[::1]:81\n" in socket.text
    assert unit(socket.text)["Backlog"] == "512"
    assert "Requires=segue-0.0.0.0_80.socket" in main.text
    with pytest.raises(UsageError, match="--socket"):
        files(settings(bind_by="worker"), ARGV, SYSTEM, sockets=True)


@pytest.mark.parametrize("name", ["segue@.service", "segue-attach@.service"])
def test_a_template_is_what_is_written_for_settings_that_need_most(name: str) -> None:
    """All but what depends on the settings: the directory, the command, and how many addresses."""
    most: dict[str, object] = {"rescue": "50ms", "carry": "http"}
    plain = attach_unit.files(AttachSettings(Address("0.0.0.0", 80), **most), ARGV, SYSTEM)  # type: ignore[arg-type]
    if name == "segue@.service":
        more = {"output_file": "/x", "carry": "http", "user": "nobody", "gentle_start": True}
        plain = files(settings("0.0.0.0:80", **more), ARGV, System(252, 4096, "/srv"))
    wanted, found = unit(plain[0].text), unit((ROOT / "deploy" / "systemd" / name).read_text())
    differing = {key for key in wanted | found if wanted.get(key) != found.get(key)}
    assert differing <= {
        *("ExecStart", "WorkingDirectory", "Environment", "FileDescriptorStoreMax"),
        *("EnvironmentFile", "TimeoutStartSec", "TimeoutStopSec"),
    }


def test_attach_gets_what_it_is_asked_for() -> None:
    """Each capability has an option that needs it, and a reason."""
    at = Address("127.0.0.1", 8080)
    few = attach_unit.capabilities(AttachSettings(at, traced=False))
    base = {"CAP_BPF", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHOWN", "CAP_NET_ADMIN"}
    assert set(few) == base
    for of, more in (
        (AttachSettings(at), {"CAP_SYS_ADMIN"}),
        (AttachSettings(at, traced=False, netns="blue"), {"CAP_SYS_ADMIN"}),
        (AttachSettings(at, traced=False, rescue="50ms"), {"CAP_KILL"}),
        (AttachSettings(Address("::", 80), traced=False), {"CAP_NET_BIND_SERVICE"}),
        (
            AttachSettings(at, traced=False, carry="http"),
            {"CAP_KILL", "CAP_NET_RAW", "CAP_PERFMON"},
        ),
    ):
        found = attach_unit.capabilities(of)
        assert set(found) - base == more
        assert all(found.values())


def test_other_files_are_there_where_settings_need_them() -> None:
    """A rotation for a log, sysctls for the engine hash and a long backlog."""
    plain = files(settings(), ARGV, SYSTEM)
    assert [one.path for one in plain] == ["/etc/systemd/system/segue-0.0.0.0_8080.service"]
    of = settings(output_file="/var/log/shop.log", engine="hash", backlog=9000, name="shop")
    found = {one.path: one.text for one in files(of, ARGV, SYSTEM)}
    assert '"/var/log/shop.log" {' in found["/etc/logrotate.d/segue-shop"]
    assert "net.ipv4.tcp_migrate_req = 1" in found["/etc/sysctl.d/60-segue-shop.conf"]
    assert "net.core.somaxconn = 9000" in found["/etc/sysctl.d/60-segue-shop.conf"]


@pytest.mark.parametrize(
    ("more", "delegate", "protected"),
    [
        ({}, "cpu", False),
        ({"cgroup": "off"}, None, True),
        ({"gentle_start": 0.0}, None, True),
        ({"cgroup": "/sys/fs/cgroup/web"}, None, False),
        ({"inject": True, "bind_by": "worker"}, "yes", False),
    ],
)
def test_control_groups_are_writable_only_where_they_are_used(
    more: dict[str, object], delegate: str | None, *, protected: bool
) -> None:
    """Delegate=cpu is what newcomers give way by; ProtectControlGroups= mounts them read-only."""
    found = service(settings(**more))
    assert found.get("Delegate") == delegate
    assert ("ProtectControlGroups" in found) is protected
