"""The file of --env-file: what it means, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given as generated
from hypothesis import strategies
from tests.supervisor.test_settings import made

from segue.errors import StartRefused
from segue.supervisor.workers.variables import given, parse, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("  A = b c \t\r\n", "b c"),
        ("A=", ""),
        ("A=b=c", "b=c"),
        ("A=b # c", "b # c"),
        ("A=it's", "it's"),
        (r"A=a\ b\\\n", r"a b\n"),
        ("A=b\\\nc", "bc"),
        ("A=b\\ ", "b "),
        ("A='b  #\nc'  ", "b  #\nc"),
        (r"A='\n'", r"\n"),
        (r'A="\"\\\$\`\n"', r"\"\$`\n".replace(r"\"", '"').replace(r"\$", r"\$")),
        ('A="b\\\nc"', "bc"),
        ("A='b'\"c\"d e", "bcd e"),
        ("# A=x\n; A=y\n\n \nA=b", "b"),
        ("A=x\nA=b", "b"),
    ],
)
def test_values_are_read_as_systemd_reads_them(text: str, value: str) -> None:
    """Quotes, escapes, continued lines and comments; of two the later counts."""
    assert parse(text, "f") == {"A": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nsecret", "/f, line 2: this is not NAME=VALUE"),
        ("\n\nexport A=1", "/f, line 3: the name of a variable must consist of .*'export A'"),
        ("1A=b", "/f, line 1: the name"),
        ("=b", "/f, line 1: the name"),
        ("A='b\nc\n", "/f, line 1: the quote ' is not closed"),
        ('A=1\nB="b\\"', '/f, line 2: the quote " is not closed'),
        ("A=b\0", "/f, line 1: a value cannot have a zero byte"),
    ],
)
def test_a_bad_line_is_named_and_not_shown(text: str, said: str) -> None:
    """With file and line; what stands there may be a password."""
    with pytest.raises(StartRefused, match=said) as refused:
        parse(text, "/f")
    assert "secret" not in str(refused.value)


@generated(strategies.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """And what is read can be given to a process."""
    try:
        found = parse(text, "f")
    except StartRefused:
        return
    assert not any("\0" in name + value or "=" in name for name, value in found.items())


def test_a_file_that_is_gone_or_not_ones_own_is_refused(tmp_path: Path) -> None:
    """It decides what workers do, as the settings do."""
    file = tmp_path / "env"
    with pytest.raises(StartRefused, match=f"variables from {file}, which is gone: put it back"):
        read(str(file))
    file.write_text("A=1\n")
    assert read(str(file)) == {"A": "1"}
    file.chmod(0o666)
    with pytest.raises(StartRefused, match="others may write to it"):
        read(str(file))
    with pytest.raises(StartRefused, match="which cannot be read: Is a directory"):
        read(str(tmp_path))
    file.chmod(0o600)
    file.write_bytes(b"A=" + b"x" * (1 << 16))
    with pytest.raises(StartRefused, match="too large"):
        read(str(file))


def test_a_variable_of_the_command_line_counts_more(tmp_path: Path) -> None:
    """--env is over --env-file; bytes that are no UTF-8 stay as they are."""
    file = tmp_path / "env"
    file.write_bytes(b"A=1\nB=\xff\n")
    found = given(made(env=("A=2",), env_file=str(file)))
    assert found == {"A": "2", "B": "\udcff"}
