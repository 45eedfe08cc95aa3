"""Scripts in packetdrill's language: how they are read, judged, and told to both sides."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

from segue.cli.main import main
from segue.errors import ScriptError, UsageError
from segue.lab.packetdrill import asserts, commands, options, telling
from segue.lab.packetdrill.judge import Verdict
from segue.lab.packetdrill.parser import parse
from segue.lab.packetdrill.script import (
    Call,
    Clock,
    Event,
    Icmp,
    Number,
    Option,
    Script,
    Segment,
    When,
)
from segue.lab.packetdrill.telling import Terms
from segue.wire.tcp import ACK, PSH, SYN

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.pkt"))
IDS = [path.stem for path in SCRIPTS]


def read(path: Path, version: int = 4) -> tuple[Script, Terms]:
    """A script of ours, and the terms on which it is told."""
    script = parse(path.read_text(), path.name, telling.defined(version))
    return script, telling.terms(script, version)


def only(text: str) -> Event:
    """The one event of a script."""
    (event,) = parse(text).events
    return event


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_the_model_does_what_our_scripts_say(path: Path, version: int) -> None:
    """Over both versions of IP."""
    result = telling.to_model(*read(path, version))
    assert result.passed, result


@pytest.mark.root
@pytest.mark.kernel("6.18")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_linux_does_what_our_scripts_say(path: Path) -> None:
    """So that what the model is held to is Linux's own doing."""
    result = telling.to_linux(*read(path))
    assert result.passed, result


def test_an_event_is_a_time_and_an_action() -> None:
    """Relative, absolute, in a range, at any time; with what is said in the packet."""
    event = only("+.1~+.2 > P. 1:11(10) ack 7 win 20 <nop,nop,sack 3:5 8:9>")
    assert event.when == When(Clock.PREVIOUS, 0.1, 0.2)
    said = (Option("nop"), Option("nop"), Option("sack", (3, 5, 8, 9)))
    assert event.action == Segment(True, PSH | ACK, 1, 10, 7, 20, options=said)
    assert only("1.5 < S 0:0(0) <...>").action == Segment(False, SYN, 0, 0, options=None)
    assert only("* < icmp unreachable frag_needed mtu 1300 [1:11(10)]").action == Icmp(
        "unreachable", "frag_needed", 1300, 1, 10
    )
    call = only("+0...0.3 read(4, ..., 0x10) = -1 EAGAIN (Try again (later))").action
    assert isinstance(call, Call)
    assert (call.until, call.result, call.error) == (0.3, -1, "EAGAIN")
    assert call.arguments[0] == Number(4)


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("0 socket(..., SOCK_STREAM", "1:26", "expected ',' or ')' after an argument, not the end"),
        ("// one\n  +0 < S 0:5(4)", "2:10", "0:5 are not 4 bytes"),
        ("+0 > P. 1:2(1)", "1:15", "expected 'ack NUMBER' after a '.' in the flags"),
        ("+0 < S 0:0(0) <mss 70000>", "1:20", "the largest segment is at most 65535"),
        ("+0 < S 0:0(0) win 5 <md5 00>", "1:22", "the lab has no TCP MD5 signatures"),
        ("+0 < SQ 0:0(0)", "1:6", "'Q' is no flag"),
        ("+0 %{ assert 1", "1:4", "}% ends the code"),
        ("+0 `sysctl a=1", "1:4", "a backtick ends the command"),
        ("+.2~+.1 > . 1:1(0) ack 1", "1:6", "the range ends before it begins"),
        ("+x read(3) = 0", "1:2", "expected a time: seconds, +seconds or *, not 'x'"),
        ("+0 close(3)", "1:12", "expected '=' and the result of the call"),
        ("+0 f(" + "[" * 60, "1:19", "nothing is nested more than 12 deep"),
        ("+0 close(" + "9" * 5000 + ") = 0", "1:10", "a number has at most 24 digits"),
    ],
)
def test_an_error_points_at_what_was_not_expected(text: str, where: str, expected: str) -> None:
    """File, line and column, and a sentence."""
    with pytest.raises(ScriptError) as caught:
        parse(text, "one.pkt")
    assert str(caught.value).startswith(f"one.pkt:{where}: ")
    assert expected in str(caught.value)


def test_nothing_but_its_own_error_comes_of_nonsense() -> None:
    """Of scripts that were damaged by chance, and of words in any order."""
    chance = random.Random(1)
    whole = [path.read_text() for path in SCRIPTS]
    words = " ".join(whole).split()
    read_well = 0
    for _ in range(1500):
        text = chance.choice(whole)
        if chance.random() < 0.3:
            text = " ".join(chance.choice(words) for _ in range(chance.randrange(12)))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(text) + 1)
            put = chance.choice(["", "(", "}%", "`", '"', "\0", "é", "9" * 40, "...", text[:9]])
            text = text[:at] + put + text[at + chance.randrange(6) :]
        try:
            telling.terms(parse(text))
            read_well += 1
        except ScriptError:
            pass
    assert 0 < read_well < 1500


def test_settings_are_taken_from_commands_and_nothing_is_executed() -> None:
    """The suites' own scripts are known by name; all else is refused with a sentence."""
    found = commands.settings_in("sysctl -q net.ipv4.tcp_sack=0 \\\n net.ipv4.tcp_fastopen=0x402")
    assert found == [("net.ipv4.tcp_sack", "0"), ("net.ipv4.tcp_fastopen", "1026")]
    assert commands.settings_in("../common/defaults.sh") == list(commands.DEFAULTS)
    assert commands.settings_in("a/set_sysctls.py /proc/sys/net/ipv4/tcp_wmem='4 5 6'") == [
        ("net.ipv4.tcp_wmem", "4 5 6")
    ]
    assert commands.settings_in("/tmp/sysctl_restore_${PPID}.sh\nip tcp_metrics flush all") == []
    for text in (
        "rm -r x", "sysctl kernel.panic=1", "sysctl net.ipv4.x=$(id)", "sysctl net.ipv4.x='",
        "true; id",
    ):  # fmt: skip
        with pytest.raises(UsageError, match="executes no commands"):
            commands.settings_in(text)


def test_assertions_are_judged_and_not_executed() -> None:
    """Comparisons and whole numbers; a call, an attribute or a long power is refused."""
    values = {"tcpi_rtt": 9, "TCP_CA_Open": 0}
    with warnings.catch_warnings(action="error"):  # what Python finds odd is not printed
        assert asserts.first_failure("assert 1and tcpi_rtt", values) is None
    assert asserts.first_failure("assert 5 <= tcpi_rtt <= 10, 'rtt %d' % tcpi_rtt", values) is None
    assert asserts.first_failure("\n  assert tcpi_rtt & 8 != 0\n  print(tcpi_rtt)", values) is None
    said = asserts.first_failure("assert not tcpi_rtt or tcpi_rtt // 2 > 4", values)
    assert said == "not tcpi_rtt or tcpi_rtt // 2 > 4: tcpi_rtt is 9"
    for text in (
        "assert open('x')", "import os", "assert tcpi_rtt.real", "assert 2 ** 99999", "x = 1",
        "assert 1 << 9", "assert [1]", "assert tcpi_lost", "assert 1 / 0", "assert (",
        "assert " + "9" * 9 + "*9" * 40,
    ):  # fmt: skip
        with pytest.raises(UsageError):
            asserts.first_failure(text, values)


def test_options_are_written_in_the_order_of_the_script() -> None:
    """And read back alike, Fast Open's two forms too."""
    said = (
        Option("TS", (7, 8)), Option("nop"), Option("wscale", (3,)), Option("mss", (1460,)),
        Option("FOEXP", (), b"\1" * 8), Option("FO"), Option("sackOK"), Option("nop"),
    )  # fmt: skip
    made = options.emit(said)
    assert len(made) % 4 == 0
    assert options.parse(made)[: len(said)] == said
    assert options.tell(said[:2]) == "<TS val 7 ecr 8,nop>"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("+0 > S. 0:0(0) ack 1", "nothing was sent"),
        ("+0 listen(9, 1) = 0", "the call gave -1 EBADF"),
        ("+0 socket(..., SOCK_STREAM, 0) = 3\n+0 accept(3, ..., ...) = -1 EAGAIN", "EINVAL"),
    ],
)
def test_the_first_difference_is_told(text: str, why: str) -> None:
    """With what came instead."""
    script = parse(text)
    result = telling.to_model(script, telling.terms(script))
    assert result.verdict is Verdict.DIFFERENT
    assert why in result.why
    assert result.at == len(script.events) - 1


def test_what_is_not_asked_is_named() -> None:
    """Active opens above all."""
    script = parse("0 socket(..., SOCK_STREAM, 0) = 3\n+0 connect(3, ..., ...) = 0")
    result = telling.to_model(script, telling.terms(script))
    assert result.verdict is Verdict.REFUSED
    assert "active opens are not asked" in result.why


def test_the_command_shows_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says whether all was as the script says; a script that cannot be read is 2."""
    assert main(["lab", "run", str(SCRIPTS[0]), "--only", "model"]) == 0
    assert "the model passed" in capsys.readouterr().out
    bad = tmp_path / "bad.pkt"
    bad.write_text("+0 > S. 0:0(0) ack 1\n")
    assert main(["lab", "run", str(bad), "--only", "model"]) == 1
    assert "≠" in capsys.readouterr().out
    bad.write_text("+0 >")
    assert main(["lab", "run", str(bad)]) == 2
    assert f"{bad}:1:5: expected" in capsys.readouterr().err
