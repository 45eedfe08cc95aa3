"""The units of ``segue install``: written, accepted by systemd, and enough to serve with."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.security.test_rights_live import PYTHON, place
from tests.supervisor.attaching import PLAIN, Attach, Servers
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import wait_until

from segue.address import Address
from segue.cli.main import main
from segue.install import attach_unit
from segue.install.units import capabilities
from segue.linux import sysctl
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.settings import Bind, Settings

__all__ = ["place"]  # a fixture

TEMPLATES = ROOT / "deploy" / "systemd"
ATTACH = ("attach", "127.0.0.1:80", "--name", "shop")
RUN = ("run", "--bind", "0.0.0.0:80", "--user", "nobody", "--name", "shop", "--", "sleep", "9")


def test_files_are_written_below_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named, and what to do then; a second time replaces them."""
    for _ in range(2):
        assert main(["install", "--write", "--socket", "--root", str(tmp_path), *RUN]) == 0
    said = capsys.readouterr().out
    assert "systemctl daemon-reload && systemctl enable --now segue-shop.service" in said
    units = tmp_path / "etc" / "systemd" / "system"
    assert sorted(os.listdir(units)) == ["segue-shop.service", "segue-shop.socket"]
    text = (units / "segue-shop.service").read_text()
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    program, *rest = line.removeprefix("ExecStart=").split()
    assert os.access(program, os.X_OK)
    assert " ".join(rest).startswith(
        "-m segue run --bind 0.0.0.0:80 --user nobody --name shop -- /"
    )


def test_a_command_may_stand_without_dashes_or_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As segue run takes it; what is in segue.toml is read from there by the unit too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    assert main(["install", "run", "--bind", "127.0.0.1:8080", "sleep", "9"]) == 0
    assert "--bind 127.0.0.1:8080 -- /" in capsys.readouterr().out
    (tmp_path / "segue.toml").write_text('bind = ["127.0.0.1:8080"]\ncommand = ["sleep", "9"]\n')
    assert main(["install", "run"]) == 0
    said = capsys.readouterr().out
    assert f"WorkingDirectory={tmp_path}" in said
    assert "run --name 127.0.0.1_8080\n" in said


def test_a_wrong_command_line_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused by what segue run says of it."""
    root = ["install", "--write", "--root", str(tmp_path)]
    for words, said in (
        (["run", "--bind", "0.0.0.0:80"], "there is nothing to run"),
        (["run", "--bind", "nowhere", "--", "sleep"], "is not an address"),
        (["run", "--bind", ":80", "--", "no-such-program"], "there is no program"),
        (["attach"], "Missing argument"),
        (["attach", ":80", "--rescue", "soon"], "--rescue"),
        (["--socket", "attach", ":80"], "the listeners are the server's"),
        ([], "segue install run"),
    ):
        assert main([*root, *words]) == 2
        assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(
    not os.path.exists("/usr/bin/systemd-analyze"), reason="needs systemd-analyze (systemd)"
)
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """No word of them is unknown to it."""
    assert main(["install", "--write", "--socket", "--root", str(tmp_path), *RUN]) == 0
    assert main(["install", "--write", "--root", str(tmp_path), *ATTACH]) == 0
    units = tmp_path / "etc" / "systemd" / "system"
    made = [f"./{one}" for one in sorted(os.listdir(units))]
    assert len(made) == 3
    made += [str(TEMPLATES / one) for one in sorted(os.listdir(TEMPLATES))]
    command = ["systemd-analyze", "verify", *made]
    ended = subprocess.run(command, cwd=units, check=False, capture_output=True, text=True)
    absent = "is not executable"  # a template names the usual place of segue
    about_ours = [it for it in ended.stderr.splitlines() if "segue" in it and absent not in it]
    assert about_ours == []


@pytest.mark.skipif(
    not os.path.exists("/usr/bin/systemd-analyze"), reason="needs systemd-analyze (systemd)"
)
@pytest.mark.parametrize(
    ("words", "most"),
    [(RUN, 7.0), (ATTACH, 4.5), ((*ATTACH, "--no-trace"), 4.2)],
    ids=["run", "attach", "attach without the tracepoint"],
)
def test_systemd_finds_little_exposed(tmp_path: Path, words: tuple[str, ...], most: float) -> None:
    """Of ten: nine and more is a service without any of this."""
    assert main(["install", "--write", "--root", str(tmp_path), *words]) == 0
    (unit,) = (tmp_path / "etc" / "systemd" / "system").iterdir()
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ended.stdout)
    assert found, ended.stdout + ended.stderr
    assert float(found[1]) <= most, ended.stdout


@pytest.mark.root
@pytest.mark.kernel("6.9")
@pytest.mark.program("setpriv")
def test_the_bounded_capabilities_are_enough(netns: int, place: Path) -> None:
    """To start workers of another user at a low port, to restart them, and to carry."""
    of = Settings((Bind.parse("127.0.0.1:80", 0),), ("true",), user="nobody", carry="http")
    bounded = ",".join(f"+{one.removeprefix('CAP_').lower()}" for one in capabilities(of))
    flags = ("--bind", "127.0.0.1:80", "--user", "nobody", "--carry", "http")
    before = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{bounded}", "--inh-caps=-all")
    command = (PYTHON, "-S", "-E", str(ROOT / "tests" / "supervisor" / "keeping_server.py"))
    os.rmdir(place / "run")
    with Instance(place, *flags, before=before, command=command) as one:
        one.wait_serving()
        status = one.status()
        assert (status["engine"], status["carry"]) == ("migrate", "http")
        one.ask("restart", wait=True)
        one.wait_serving(2)
        assert one.ask("scale", workers=2)["exit"] == 0
        wait_until(lambda: len(one.workers("serving")) == 2, "a second worker")
        assert refused(one.said()) == []


@pytest.mark.root
@pytest.mark.kernel("6.9")
@pytest.mark.program("setpriv")
@pytest.mark.parametrize("carry", ["off", "http"])
def test_the_bounded_capabilities_are_enough_to_attach(
    netns: int, tmp_path: Path, bpf_directory: str, carry: str
) -> None:
    """To a server of another user at a low port, and to carry for it."""
    at = Address("127.0.0.1", 80)
    of = AttachSettings(at, carry=carry)  # type: ignore[arg-type]
    bounded = ",".join(
        f"+{one.removeprefix('CAP_').lower()}" for one in attach_unit.capabilities(of)
    )
    before = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{bounded}", "--inh-caps=-all")
    sysctl.write("net.ipv4.ip_unprivileged_port_start", "0")
    server = (PYTHON, *PLAIN[1:], at.host, str(at.port))
    command = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *server)
    with contextlib.closing(Servers()) as servers:
        for _ in range(2):
            servers.start(*command, address=at)
        flags = ("--carry", carry)
        with Attach(tmp_path, bpf_directory, *flags, address=at, before=before) as one:
            one.wait_attached(2)
            assert refused(one.said()) == []


def refused(said: str) -> list[str]:
    """The lines in which somebody was not permitted something."""
    words = ("cannot", "not permitted", "lacks", "hides", "needs CAP")
    return [line for line in said.splitlines() if any(word in line for word in words)]


def test_the_service_has_what_systemd_needs(tmp_path: Path) -> None:
    """A unit is an INI file with three parts."""
    assert main(["install", "--write", "--root", str(tmp_path), *RUN]) == 0
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(tmp_path / "etc" / "systemd" / "system" / "segue-shop.service")
    assert parser.sections() == ["Unit", "Service", "Install"]
