"""``segue probe`` against an instance of ``segue run``: Segue's own side is in the report."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, ROOT, Instance

from segue.cli.main import main

pytestmark = pytest.mark.root

RESTART = shlex.join([sys.executable, "-m", "segue", "restart", "--name", "t"])


def test_a_restart_is_told_from_both_sides(
    netns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every connection of the probe was selected, the stages are in order, the page shows them."""
    page = tmp_path / "report.html"
    with Instance(tmp_path) as instance:
        instance.wait_serving()
        monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
        args = ["--rate", "200", "--steady", "0.5", "--settle", "0.5", "--html", str(page)]
        code = main(["probe", f"http://{ADDRESS}/", *args, "--json", "--during", RESTART])
        report = json.loads(capsys.readouterr().out)
        assert main(["probe", f"http://{ADDRESS}/", "--rate", "100", "--count", "10"]) == 0
        drawn = capsys.readouterr().out
    assert code == 0
    assert report["lost"] == 0
    found = report["segue"]
    assert found["name"] == "t"
    # Others may knock meanwhile: the supervisor itself, to see whether a worker is ready.
    assert found["counts"]["new"] + found["by_hash"] >= report["total"]
    assert [mark["text"] for mark in found["marks"]] == [
        "generation 2 starts", "generation 2 serves", "generation 1 is gone",
    ]  # fmt: skip
    assert found["restarts"] == 1
    text = page.read_text()
    assert text.count("generation 2 serves") == 3  # both pictures and the table
    assert "segue (t, engine" in drawn


@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_instance_that_serves_both_families_is_found_by_either(
    netns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
) -> None:
    """It listens at [::], as Go and Java do for what comes by IPv4 too."""
    command = (sys.executable, str(ROOT / "tests" / "supervisor" / "dual_stack_server.py"))
    flags = ("--bind", "0.0.0.0:8080", "--bind-by", "worker")
    with Instance(tmp_path, *flags, command=(*command, "::", "8080")) as instance:
        instance.wait_serving()
        monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
        args = ["--rate", "100", "--count", "5", "--json"]
        assert main(["probe", f"http://{host}:8080/", *args]) == 0
    assert json.loads(capsys.readouterr().out)["segue"]["name"] == "t"


def test_an_instance_elsewhere_is_not_asked(
    netns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another port is another server's, whoever runs an instance."""
    with Instance(tmp_path) as instance:
        instance.wait_serving()
        monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
        args = ["--no-check", "--rate", "100", "--count", "5", "--json"]
        assert main(["probe", "127.0.0.1:8081", *args]) == 0
    assert json.loads(capsys.readouterr().out)["segue"] is None
