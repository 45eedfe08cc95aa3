"""``segue lab``: the model serves curl, and stories are compared."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from scapy.layers.inet import IP, TCP
from scapy.utils import rdpcap
from tests.waiting import PATIENCE

from segue.cli.main import main
from segue.errors import KernelError
from segue.lab.stories import STORIES
from segue.lab.verbs import SHAPES

SERVE = [sys.executable, "-m", "segue", "lab", "serve"]
OFTEN = ["--restart-every", "0.02"]


@pytest.fixture(params=[OFTEN])
def served(
    netns: int, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[subprocess.Popen[str]]:
    """The model, restarted fifty times a second or as asked, in the test's namespace."""
    command = [*SERVE, *request.param, "--pcap", str(tmp_path / "all.pcap")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert "listens at 10.99.0.2:80" in program.stdout.readline()
            yield program
        finally:
            program.kill()


@pytest.mark.root
@pytest.mark.program("curl")
def test_curl_never_notices_a_restart(served: subprocess.Popen[str], tmp_path: Path) -> None:
    """Small and large answers, whole, on kept connections and on new ones; a file of all of it."""
    urls = [f"http://10.99.0.2/{size}" for size in (0, 10, 3_000_000)]
    for _ in range(5):
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", *urls],
            capture_output=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        assert done.stdout == b"segue segu" + b"segue " * 500_000
    served.send_signal(signal.SIGINT)
    out, _ = served.communicate(timeout=PATIENCE)
    assert out.startswith("15 answers, ")
    assert out.endswith(" 0 reset\n")
    assert int(out.split()[2]) > 5
    assert (tmp_path / "all.pcap").stat().st_size > 15_000_000


@pytest.mark.root
@pytest.mark.program("curl")
def test_a_capture_is_read_by_others(served: subprocess.Popen[str], tmp_path: Path) -> None:
    """Each packet is whole and has right checksums, as scapy computes them; none is missing."""
    size = 200_000
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", f"http://10.99.0.2/{size}"],
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    served.send_signal(signal.SIGINT)
    served.communicate(timeout=PATIENCE)
    seen = [packet[IP] for packet in rdpcap(str(tmp_path / "all.pcap")) if IP in packet]
    assert [packet[TCP].flags for packet in seen[:3]] == ["S", "SA", "A"]
    isn, data = seen[1][TCP].seq, {}
    for packet in seen:
        assert len(bytes(packet)) == packet.len
        again = packet.copy()
        del again.chksum, again[TCP].chksum
        assert bytes(again) == bytes(packet)
        if packet.src == "10.99.0.2" and packet[TCP].payload:
            data[(packet[TCP].seq - isn) % 2**32] = bytes(packet[TCP].payload)
    assert b"".join(data[seq] for seq in sorted(data)).endswith(done.stdout)
    assert done.stdout == b"segue " * (size // 6) + b"se"


@pytest.mark.root
@pytest.mark.program("curl")
@pytest.mark.parametrize("served", [[]], indirect=True)
def test_a_signal_restarts_the_listener_once(served: subprocess.Popen[str], tmp_path: Path) -> None:
    """And a path that is no number is a page, after which the connection ends if asked."""
    served.send_signal(signal.SIGUSR1)
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--include"),
            *("--header", "Connection: close", "http://10.99.0.2/"),
        ],
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"Content-Type: text/html" in head
    assert b"Connection: close" in head
    assert body.startswith(b"<!doctype html>")
    served.send_signal(signal.SIGINT)
    out, _ = served.communicate(timeout=PATIENCE)
    assert out.startswith("1 answers, 1 restarts,")
    packets = [packet[IP] for packet in rdpcap(str(tmp_path / "all.pcap")) if IP in packet]
    last = [one for one in packets if one.src == "10.99.0.2" and one[TCP].payload][-1]
    assert "F" in last[TCP].flags  # the end goes with the last data, in no packet of its own


def test_stories_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """By name, one a line."""
    assert main(["lab", "explain"]) == 0
    assert capsys.readouterr().out.splitlines() == list(STORIES)


def test_an_unknown_story_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the name that was meant."""
    assert main(["lab", "explain", "both ends close at one"]) == 2
    assert "did you mean 'both ends close at once'?" in capsys.readouterr().err


@pytest.mark.root
@pytest.mark.kernel("6.18")
def test_a_story_is_explained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the model did, that Linux did the same; also as a picture and as a page."""
    picture, page = tmp_path / "story.svg", tmp_path / "story.html"
    story = "a handshake migrates at its final ACK"
    wanted = ["--svg", str(picture), "--html", str(page)]
    assert main(["lab", "explain", story, *wanted]) == 0
    out = capsys.readouterr().out
    assert "tells all of it alike" in " ".join(out.split())
    assert "+1 TCPMigrateReqSuccess" in out
    for made in (picture, page):
        assert "moves from A to B" in made.read_text()


@pytest.mark.root
@pytest.mark.kernel("6.18")
def test_the_series_is_told_beside_linux(capsys: pytest.CaptureFixture[str]) -> None:
    """It counts nothing, which is marked, and is no failure."""
    story = "a handshake migrates at its final ACK"
    assert main(["lab", "explain", story, "--profile", "series"]) == 0
    out = capsys.readouterr().out
    assert "profile series" in out
    assert "≠ Linux" in out


@pytest.mark.root
@pytest.mark.kernel("6.18")
def test_a_story_of_ones_own_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """From a file, with what it says of itself."""
    own = tmp_path / "own.txt"
    own.write_text("# Nobody is there.\nlisten A\nsyn c\nclose A\nack c\n")
    assert main(["lab", "explain", "--file", str(own)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("own.txt\nNobody is there.\n")
    assert "[NEW_SYN_RECV] goes nowhere and is lost" in " ".join(out.split())


def test_a_story_that_cannot_be_told_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With its file and line; a missing file, one that is no text, and two stories at once."""
    own = tmp_path / "own.txt"
    own.write_text("listen A\ndance A\n")
    assert main(["lab", "explain", "--file", str(own)]) == 2
    assert f"{own}: line 2: no story has the verb 'dance'" in capsys.readouterr().err
    own.write_bytes(b"\xff\xfe")
    assert main(["lab", "explain", "--file", str(own)]) == 2
    assert "is no text in UTF-8" in capsys.readouterr().err
    assert main(["lab", "explain", "--file", str(tmp_path / "none")]) == 1
    assert f"reading {tmp_path / 'none'}" in capsys.readouterr().err
    assert main(["lab", "explain", "both ends close at once", "--file", str(own)]) == 2
    assert "at once: leave one of them out" in capsys.readouterr().err


def test_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what it takes and means."""
    assert main(["lab", "explain", "--verbs"]) == 0
    out = capsys.readouterr().out
    for verb, (arguments, _) in SHAPES.items():
        assert f"{verb} {arguments}".rstrip() in out


def test_without_a_namespace_the_model_explains_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said why Linux was not asked."""

    def refused() -> NoReturn:
        raise KernelError("unshare", errno.EPERM, "making a network namespace")

    monkeypatch.setattr("segue.cli.lab.kernel", refused)
    assert main(["lab", "explain", "both ends close at once"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Linux was not asked: making a network namespace" in out
    assert out.count("SYN ACK") == 1
