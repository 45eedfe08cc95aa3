"""Text that others chose: what would act in a terminal or a log is shown."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from segue.visible import as_json, paragraph, printable_json, visible, whole

ACTS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
]
PLAIN = "nginx: worker process, grüße, \u65e5\u672c, \U0001f600, a\u00a0b \\x1b"


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x1b", r"\x1b"), ("\x07", r"\x07"), ("\r", r"\x0d"), ("\n", r"\x0a"), ("\t", r"\x09"),
        ("\x7f", r"\x7f"), ("\x9b", r"\x9b"), ("\u2028", r"\u2028"), ("\u2029", r"\u2029"),
        ("\u202e", r"\u202e"), ("\u200b", r"\u200b"), ("\ufeff", r"\ufeff"),
        ("\udc9b", r"\udc9b"), ("\U000e0041", r"\U000e0041"),
    ],
)  # fmt: skip
def test_what_acts_is_shown_by_its_number(character: str, shown: str) -> None:
    """An escape, a separator, a mark of direction and half a character are told in ASCII."""
    assert visible(f"a{character}b") == f"a{shown}b"


def test_every_character_that_acts_is_shown() -> None:
    """Whatever Unicode counts as a control, a format, a separator of lines or a surrogate."""
    assert len(ACTS) > 2000
    assert all(visible(one).isascii() and visible(one).isprintable() for one in ACTS)
    assert all(paragraph(one).isascii() for one in ACTS)


def test_what_people_read_stays_as_it_is() -> None:
    """Letters of any script, spaces and backslashes are not touched."""
    assert visible(PLAIN) == PLAIN
    assert paragraph(PLAIN) == PLAIN


def test_a_log_keeps_tabs_and_a_paragraph_its_lines() -> None:
    """Tabs are kept where asked for; a further line is indented, so it never begins one."""
    assert visible("a\tb\x1b", tabs=True) == "a\tb\\x1b"
    assert paragraph("a\nsegue: all is well\x1b") == "a\n  segue: all is well\\x1b"


def test_a_whole_answer_is_made_visible() -> None:
    """Strings at any depth and keys are shown, numbers are not touched."""
    given = {"a\x1b": ["\x9b", {"b": ("\u2028", 1, None, True)}]}
    assert whole(given) == {r"a\x1b": [r"\x9b", {"b": [r"\u2028", 1, None, True]}]}


def test_json_for_a_terminal_is_printable_ascii() -> None:
    """Every character that acts is escaped, and a reader of JSON gets back what was written."""
    given = {"line": "".join(one for one in ACTS if unicodedata.category(one) != "Cs")}
    written = as_json(given)
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == given


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        'say "a"',
        "back\\slash",
        '\\"',
        "\\\\u0041",
        "tab\t",
        "\x1b[2J",
        "\x7f",
        "é",
        "\\\x00",
    ],
)
def test_json_is_printable_if_nothing_in_it_would_be_changed(text: str) -> None:
    """What is not sure is looked through, as a name that is not ASCII."""
    plain = {"a": [text]}
    line = json.dumps(plain).encode() + b"\n"
    assert printable_json(line) == (text.isascii() and whole(plain) == plain)


def test_json_that_is_not_in_utf_8_is_not_sure() -> None:
    """UTF-16 is JSON to Python, too."""
    assert not printable_json(json.dumps("\x1b").encode("utf-16-le"))
    assert not printable_json(b'"\x7f"')
