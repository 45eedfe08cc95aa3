"""``segue policy``: what users type, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.cli.main import main

TENANT = """\
from segue import Map, Verdict, policy

tenants = Map("tenants", size=16)
tenants[0xC00002] = 1


@policy
def by_tenant(conn, group):
    home = tenants.get(conn.remote_ip4 >> 8)
    if home is None:
        return group.table.select(conn.hash)
    if conn.migrating and not group.slot(home).listening:
        return Verdict.DROP
    return group.slot(home).select()
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A policy's file."""
    made = tmp_path / "my.py"
    made.write_text(TENANT)
    return str(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "PASS to slot 1"),
        (["--migrating", "child", "--weights", "0=1"], "DROP"),
        (["--weights", "0=1"], "PASS, by the kernel's own hash"),
        (["--remote", "198.51.100.1:1", "--hash", "4", "--weights", "3=1"], "PASS to slot 3"),
        (["--remote", "[2001:db8::1]:1", "--local", "[::1]:2", "--weights", "2=1"], "to slot 2"),
    ],
)
def test_trying_says_what_is_decided(
    file: str, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    """Of one connection, without any permission."""
    assert main(["policy", "try", f"{file}:by_tenant", *options]) == 0
    assert said in capsys.readouterr().out


def test_showing_has_the_source_beside_the_program(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line that something is done for, and every instruction."""
    assert main(["policy", "show", f"{file}:by_tenant"]) == 0
    out = capsys.readouterr().out
    lines = TENANT.splitlines()
    shown = [line.split("|")[0].strip() for line in out.splitlines()]
    for number in (9, 11, 12, 14):
        assert f"{number:>4} {lines[number - 1]}".strip() in shown
    assert shown[0] == "(the port's pin)"
    assert "(counting)" in shown
    assert "call bpf_sk_select_reuseport" in out


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_checking_asks_the_verifier(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how much it looked at."""
    assert main(["policy", "check", f"{file}:by_tenant"]) == 0
    out = capsys.readouterr().out
    assert "by_tenant compiles: " in out
    assert "map tenants: hash, 16 entries" in out
    assert "the kernel's verifier accepts it" in out


def test_the_library_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each that can be named."""
    assert main(["policy", "list"]) == 0
    assert "never_migrate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("nowhere.py:x", "nowhere.py cannot be read: No such file"),
        ("nothing", "there is no policy 'nothing': write FILE.py:NAME, or one of shares"),
        ("{file}:absent", "has no policy 'absent'; it has by_tenant"),
        ("{broken}:x", "broken.py: line 2: SyntaxError: "),
        ("{failing}:x", "failing.py: line 1: ZeroDivisionError: division by zero"),
        ("{wrong}:x", "wrong.py:4:12: conn has no `colour`"),
    ],
)
def test_what_cannot_be_used_is_said(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, said: str
) -> None:
    """In one sentence, with exit code 2."""
    texts = {
        "broken": "x = 1\ndef (\n",
        "failing": "1 / 0\n",
        "wrong": "from segue import policy\n@policy\ndef x(conn, group):\n    return conn.colour\n",
    }
    files = {"file": file}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        files[name] = str(tmp_path / f"{name}.py")
    assert main(["policy", "show", policy.format(**files)]) == 2
    assert said in capsys.readouterr().err


def test_two_programs_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    """A policy and an object cannot both select."""
    run = ["run", "--check", "--bind", "127.0.0.1:9", "--policy", "sticky", "--object", "x.o"]
    assert main([*run, "--", "true"]) == 2
    assert "give one" in capsys.readouterr().err
