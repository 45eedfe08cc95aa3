"""The catalogue of servers, and the page that is made of its runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from bench.catalogue import CATALOGUE
from bench.catalogue.__main__ import main
from bench.catalogue.entry import Entry, spoken

from segue.cli.run import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "SERVERS.md"


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda one: one.name)
def test_the_page_has_each_server_as_it_was_run(entry: Entry) -> None:
    """Name, options and command: the figures there are of these."""
    (row,) = [one for one in PAGE.read_text().splitlines() if one.startswith(f"| {entry.name} |")]
    options = f"`{entry.options}`" if entry.options else ""
    assert row.startswith(f"| {entry.name} | {options} | `{entry.command}` | {entry.know} | ")


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda one: one.name)
def test_the_options_are_those_of_segue_run(entry: Entry) -> None:
    """So that a renamed option is renamed here and on the page."""
    known = {flag for option in run.params for flag in (*option.opts, *option.secondary_opts)}
    assert {word for word in shlex.split(entry.options) if word.startswith("--")} <= known


def test_bytes_are_given_as_the_probe_reads_them() -> None:
    """By Python's escapes."""
    words = ("--send", r"a\r\n\x00", "--expect", "+", "--from", "127.0.0.1")
    assert spoken(b"a\r\n\0", b"+") == words
    assert spoken(b"", b"SSH-")[:2] == ("--expect", "SSH-")


def test_an_unknown_server_is_said_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is run, and the exit code is 2."""
    assert main(["iis"]) == 2
    assert "there is no server 'iis' (there are: uvicorn, " in capsys.readouterr().err
