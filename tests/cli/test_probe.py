"""``segue probe`` as users run it, against servers that do what the test knows."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.probe.servers import PORT, misbehaving, serving
from tests.waiting import PATIENCE

from segue.cli.main import main
from segue.errors import UsageError
from segue.probe.target import parse

URL = f"http://127.0.0.1:{PORT}/"

pytestmark = pytest.mark.root


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return report


def python(program: str) -> str:
    """A command that runs this program."""
    return shlex.join([sys.executable, "-c", program])


def test_what_was_lost_is_told_as_json(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The counts are the server's own, and nothing lost means nothing to fail on."""
    with misbehaving("answer") as did:
        code = main(["probe", URL, "--rate", "500", "--count", "200", "--json", "--fail-on-loss"])
    report = found(capsys)
    assert code == 0
    assert report["counts"] == {"ok": 200}
    # One more than was counted: the look before the run.
    assert did["answer"] == 201
    assert [one["name"] for one in report["timeline"]["phases"]] == ["steady"]
    assert sum(one["ok"] for one in report["timeline"]["slices"]) == 200


def test_a_loss_fails_only_when_asked(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 is a deploy gate's: without the flag a report is a success."""
    with misbehaving("answer", "eof"):
        command = ["probe", URL, "--rate", "500", "--count", "99", "--json"]
        assert main(command) == 0
        assert found(capsys)["counts"] == {"eof": 50, "ok": 49}
    with misbehaving("answer", "eof"):
        assert main([*command, "--fail-on-loss"]) == 1


def test_the_command_divides_the_run(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It begins after the steady time; what it ran into is told apart, and the load ends by it."""
    with misbehaving("answer"):
        command = ["--during", python("print('done')"), "--steady", "0.5", "--settle", "0.5"]
        assert main(["probe", URL, "--rate", "200", "--json", *command]) == 0
    report = found(capsys)
    during, phases = report["during"], report["timeline"]["phases"]
    assert (during["exit"], during["failed"], during["output"]) == (0, False, "done\n")
    assert 0.45 <= during["begin_s"] < during["end_s"]
    assert report["seconds"] >= during["end_s"] + 0.4
    assert [one["name"] for one in phases] == ["before", "restart", "after"]
    assert phases[0]["total"] > 80
    assert sum(one["total"] for one in phases) == report["total"]
    assert phases[1]["p99_ms"] is not None


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (python("import sys; print('no such unit'); sys.exit(7)"), "exited with 7"),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "ended by SIGKILL"),
        ("/no/such/program", "could not be started (No such file or directory)"),
        (python("import time; time.sleep(60)"), "was not over within 0.5 s and was stopped"),
    ],
)
def test_a_command_that_fails_is_code_4(
    netns: int, capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    """Whatever was lost or not: its own end is in the report and in one sentence."""
    with misbehaving("answer"):
        given = ["--during", command, "--steady", "0.1", "--settle", "0"]
        code = main(["probe", URL, *given, "--during-timeout", "0.5", "--json"])
    captured = capsys.readouterr()
    assert code == 4
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert json.loads(captured.out)["during"]["failed"] is True


def test_its_last_words_are_repeated(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure's reason is mostly in the last line that was printed."""
    with misbehaving("answer"):
        program = python("import sys; print('one'); sys.exit('no such unit')")
        main(["probe", URL, "--during", program, "--steady", "0", "--settle", "0", "--json"])
    assert "; its last words: no such unit" in capsys.readouterr().err


def test_a_command_whose_time_never_comes_has_failed(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The load was over first: nothing was restarted, so nothing is proven."""
    with misbehaving("answer"):
        code = main(["probe", URL, "--rate", "100", "--count", "5", "--during", "true", "--json"])
    captured = capsys.readouterr()
    assert code == 4
    assert "never began" in captured.err
    assert json.loads(captured.out)["during"]["begin_s"] is None


def test_for_a_reader_there_are_tables(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict, the fates with evidence, the phases, the gap, the timeline, the kernel."""
    with misbehaving("answer", "busy", "half"):
        command = ["--during", "true", "--steady", "0.3", "--settle", "0.3"]
        assert main(["probe", URL, "--rate", "200", *command]) == 0
    said = capsys.readouterr().out
    for part in ("lost of", "partial", "before", "restart", "after", "longest time", "503"):
        assert part in said
    assert "the command exited with 0: true" in said
    assert "kernel: out rsts +" in said
    assert "slowest   |" in said


def test_which_version_served(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """By a header field or by the body: how often, first and last."""

    def handle(sock: socket.socket, number: int) -> None:
        name = b"one" if number <= 50 else b"two"
        sock.recv(4096)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nX-Generation: %s\r\nContent-Length: 4\r\n"
            b"Connection: close\r\n\r\n%s\n" % (name, name)
        )

    for source in ("header:x-generation", "body"):
        with serving(handle):
            command = ["--concurrency", "1", "--count", "100", "--version-from", source, "--json"]
            assert main(["probe", URL, *command]) == 0
        report = found(capsys)
        assert report["versions"] == {"one": 50, "two": 50}
        assert report["version_times"]["one"][1] < report["version_times"]["two"][0]


def test_any_tcp_service(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """HOST:PORT: to connect is enough; bytes are sent, waited for; held ones are watched."""
    where = f"127.0.0.1:{PORT}"
    with misbehaving("nonsense"):
        talk = ["--send", "HELO\\r\\n\\r\\n", "--expect", "ESMTP"]
        assert main(["probe", where, *talk, "--count", "20", "--json"]) == 0
        assert found(capsys)["counts"] == {"ok": 20}
        assert main(["probe", where, "--count", "20", "--json"]) == 0
        assert found(capsys)["counts"] == {"ok": 20}
    with misbehaving("close_at_once"):
        held = ["--hold", "0.5", "--no-check", "--count", "20", "--json"]
        assert main(["probe", where, *held]) == 0
        assert found(capsys)["counts"] == {"eof": 20}


@pytest.mark.parametrize("more", [(), ("--hold", "0.01"), ("--send", "x", "--expect", "x")])
def test_that_nothing_is_asked_is_said(
    netns: int, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of HOST:PORT alone, which one may take for a URL; not of who says what to do there."""
    with serving(lambda sock, _: sock.sendall(sock.recv(1))):
        assert main(["probe", f"127.0.0.1:{PORT}", "--count", "2", *more]) == 0
    said = capsys.readouterr().err
    assert (f"asked nothing: http://127.0.0.1:{PORT}/ gets requests" in said) == (not more)


def test_a_banner_does_not_end_a_hold(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that come while the connection is held are read, and the hold goes on."""
    ends = []

    def handle(sock: socket.socket, number: int) -> None:
        sock.sendall(b"220 ready\r\n")
        ends.append(sock.recv(10))

    with serving(handle):
        where, held = f"127.0.0.1:{PORT}", ["--hold", "0.3", "--expect", "220"]
        assert main(["probe", where, *held, "--count", "3", "--no-check", "--json"]) == 0
    report = found(capsys)
    assert report["counts"] == {"ok": 3}
    assert report["p50_ms"] >= 295


def test_the_page_is_written(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--html makes a file and says so."""
    page = tmp_path / "report.html"
    with misbehaving("answer"):
        assert main(["probe", URL, "--count", "20", "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "faults", "sentence"),
    [
        (URL, [], "no process listens at http://127.0.0.1:8080/ (127.0.0.1:8080)"),
        (URL, ["hang"], "accepts connections and gives no whole answer within 0.5 s"),
        (URL, ["nonsense"], "does not answer in HTTP"),
        (URL, ["eof"], "ended the first connection without an answer"),
        (URL, ["half"], "in the middle of an answer: FIN or RST after a part of the answer; it"),
        (URL, ["reset"], "if it speaks TLS, write https://"),
        (f"https://127.0.0.1:{PORT}/", ["nonsense_at_once"], "the server speaks no TLS"),
        (f"ws://127.0.0.1:{PORT}/", ["answer"], "with status 200, not with 101"),
    ],
)
def test_a_target_that_does_not_answer_is_said_before_the_load(
    netns: int, capsys: pytest.CaptureFixture[str], target: str, faults: list[str], sentence: str
) -> None:
    """One attempt, one sentence, exit code 1."""
    command = ["probe", target, "--response-timeout", "0.5"]
    if not faults:
        code = main(command)
    elif faults == ["nonsense_at_once"]:
        with serving(lambda sock, _: sock.sendall(b"HTTP/1.1 400 No\r\n\r\n")):
            code = main(command)
    else:
        with misbehaving(*faults):
            code = main(command)
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def answering_one_address(sock: socket.socket, _: int) -> None:
    """As redis in its protected mode, and PostgreSQL with 127.0.0.1/32 in pg_hba.conf."""
    sock.recv(100)
    good = sock.getpeername()[0] == "127.0.0.1"
    sock.sendall(b"+PONG\r\n" if good else b"-DENIED \x1b[2J" + b"x" * 300)


def test_a_refusal_is_shown_and_another_source_can_be_given(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server may answer 127.0.0.1 alone: its words, at most 200 characters, and what to do."""
    spoken = ("probe", f"127.0.0.1:{PORT}", "--send", "PING", "--expect", "+PONG", "--count", "4")
    with serving(answering_one_address):
        assert main(spoken) == 1
        said = capsys.readouterr().err
        assert main((*spoken, "--no-check", "--json")) == 0
        (answer,) = found(capsys)["answers"].values()
        assert main((*spoken, "--from", "127.0.0.1")) == 0
    assert (
        f'in the middle of an answer: FIN or RST after a part of the answer; it said "{answer}"'
        in said
    )
    assert "asked from 127.0.0.2: if it answers 127.0.0.1 alone, give --from 127.0.0.1" in said
    assert answer.startswith("-DENIED \\x1b[2Jxxx")
    assert answer.endswith("x ...")
    assert len(answer) == 204


def test_sources_are_used_in_turn(netns: int) -> None:
    """IPv6 too."""
    came: list[str] = []

    def note(sock: socket.socket, _: int) -> None:
        came.append(sock.getpeername()[0])
        sock.recv(1)

    with serving(note):
        sources = ("--from", "127.0.0.9, 127.0.0.8", "--count", "4", "--no-check")
        assert main(("probe", f"127.0.0.1:{PORT}", *sources)) == 0
    assert Counter(came) == {"127.0.0.9": 2, "127.0.0.8": 2}
    with socket.create_server(("::1", PORT), family=socket.AF_INET6) as listener:
        assert main(("probe", f"[::1]:{PORT}", "--from", "::1", "--count", "1", "--no-check")) == 0
        with listener.accept()[0] as client:
            assert client.getpeername()[0] == "::1"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("here", "--from must be addresses such as 127.0.0.1 or ::1, with commas between"),
        ("127.0.0.1,", "with commas between (got '')"),
        ("127.0.0.1/32", "with commas between (got '127.0.0.1/32')"),
        ("::1", "--from ::1 is IPv6, and 127.0.0.1:8080 is not: give one of its family"),
        ("192.0.2.1", "--from 192.0.2.1 cannot be used (Cannot assign requested address): it must"),
        ("0.0.0.0", "--from 0.0.0.0 is no address of one host"),
        ("255.255.255.255", "is no address of one host"),
        ("224.0.0.1", "is no address of one host"),
    ],
)
def test_sources_that_cannot_be_are_refused(
    netns: int, capsys: pytest.CaptureFixture[str], given: str, sentence: str
) -> None:
    """Before anything is asked, with exit code 2."""
    assert main(("probe", f"127.0.0.1:{PORT}", "--from", given)) == 2
    assert sentence in capsys.readouterr().err


def test_an_address_without_a_route_is_unreachable(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel's own word, at once."""
    assert main(["probe", "http://192.0.2.1/"]) == 1
    assert "cannot be reached: ENETUNREACH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["ftp://127.0.0.1/"], "'ftp' is not a scheme"),
        (["http://"], "names no host"),
        (["http://me@127.0.0.1/"], "signs in nowhere"),
        (["http://127.0.0.1:99999/"], "not a URL"),
        (["http://no.such.name.invalid/"], "'no.such.name.invalid' does not resolve"),
        (["127.0.0.1:http"], "not a port"),
        ([URL, "--duration", "0"], "duration must be above 0"),
        ([URL, "--rate", "0"], "a rate must be above 0"),
        ([URL, "--count", "0"], "a count must be at least 1"),
        ([URL, "--hold", "-1"], "a pause must be 0 or more"),
        (["127.0.0.1:0"], "port 0"),
        (["127.0.0.1:1", "--send", "\\x"], "cannot be read as bytes"),
        (["127.0.0.1:1", "--expect", "€"], "cannot be read as bytes"),
        ([URL, "--rate", "1", "--keep-alive", "1"], "give only one of"),
        ([URL, "--send", "x"], "need HOST:PORT"),
        (["127.0.0.1:1", "--upload", "5"], "need a URL"),
        ([URL, "--upload", "0"], "no upload"),
        ([URL, "--upload-seconds", "1"], "needs --upload"),
        ([URL, "--insecure"], "for https and wss"),
        ([URL, "--version-from", "cookie"], "must be header:NAME or body"),
        (["https://127.0.0.1:1/", "--ca", "/no/such/file"], "holds no certificate authorities"),
        ([URL, "--during", "'"], "cannot be split"),
        ([URL, "--during", ""], "is empty"),
        ([URL, "--during", "true", "--duration", "1"], "the load lasts 1 s"),
        ([URL, "--during", "true", "--settle", "-1"], "must be 0 or more seconds"),
        ([URL, "--html", "/no/such/folder/page.html"], "cannot be written"),
        ([URL, "--concurrency", "9", "--max-open", "8"], "max_open"),
        ([URL, "--nonsense"], "No such option"),
    ],
)
def test_what_makes_no_sense_is_refused(
    netns: int, capsys: pytest.CaptureFixture[str], args: list[str], sentence: str
) -> None:
    """Exit code 2, one sentence, and no connection was made: no process listens there."""
    assert main(["probe", *args]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""


def test_a_name_with_several_addresses_is_probed_at_the_first() -> None:
    """In the resolver's order, and the others are counted."""
    answers = [(2, 1, 6, "", ("192.0.2.7", 80)), (2, 1, 6, "", ("192.0.2.8", 80))]
    target = parse("http://www.example/a?b=c", lambda *_, **__: answers)
    assert (str(target.address), target.others) == ("192.0.2.7:80", 1)
    assert (target.host, target.path) == ("www.example", "/a?b=c")
    ipv6 = parse("https://[::1]:8443", lambda *_, **__: answers)
    assert (ipv6.host, ipv6.path, ipv6.tls) == ("[::1]:8443", "/", True)
    with pytest.raises(UsageError, match=r"does not resolve: .*label"):
        parse("http://a..b/")


def test_help_names_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    """What a user can do stands in --help."""
    assert main(["probe", "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--during", "--websocket", "--upload", "--html", "--fail-on-loss", "--hold"):
        assert option in said


def test_kept_connections(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """--keep-alive N: N connections serve all requests."""
    with misbehaving("kept") as did:
        command = ["--keep-alive", "4", "--interval", "0.02", "--count", "80", "--json"]
        assert main(["probe", URL, *command]) == 0
    assert found(capsys)["counts"] == {"ok": 80}
    assert did["accepted"] == 5


def test_a_rate_that_this_machine_cannot_make_is_said(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many were due and never begun, and what was reached."""
    with misbehaving("answer"):
        assert main(["probe", URL, "--rate", "500000", "--duration", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "were due and never begun" in said
    assert "this machine was busy" in said


def test_an_interrupt_ends_the_load_and_keeps_what_was_found(netns: int) -> None:
    """Exit code 130, a report on stdout, and on a terminal a line of progress before it."""
    terminal, side = os.openpty()
    command = [sys.executable, "-m", "segue", "probe", URL, "--duration", "60", "--json"]
    with (
        misbehaving("answer"),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side) as process,
    ):
        os.close(side)
        assert process.stdout
        shown = b""
        while b"answered" not in shown:
            shown += os.read(terminal, 1000)
        process.send_signal(signal.SIGINT)
        report = json.loads(process.stdout.read())
        assert process.wait(PATIENCE) == 130
    os.close(terminal)
    assert report["interrupted"] is True
    assert 0 < report["total"] == report["counts"]["ok"]
