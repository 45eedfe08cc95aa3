"""What commands print goes through one place, which makes it visible."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.cli.shared.telling import cell, tell, tell_json, tell_lines

CLI = Path(__file__).parent.parent.parent / "src" / "segue" / "cli"


def test_nothing_is_printed_past_it() -> None:
    """No command prints, writes JSON or escapes for rich by itself."""
    for path in CLI.rglob("*.py"):
        text = path.read_text()
        if path.name != "telling.py":
            for way in ("click.echo", "click.secho", "print(f", "json.dumps", "rich.markup"):
                assert way not in text.replace("console.print(", ""), f"{path.name}: {way}"


def test_what_is_printed_is_visible(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes are shown, whichever way; a further line of a sentence is indented."""
    tell("one\x1b\nsegue: two")
    tell_lines("three\n\tfour\x9b")
    tell_json({"five": "\x7f\u2028"})
    assert capsys.readouterr().out == (
        'one\\x1b\n  segue: two\nthree\n\tfour\\x9b\n{"five": "\\u007f\\u2028"}\n'
    )
    assert cell("[red]\x07") == "\\[red]\\x07"
