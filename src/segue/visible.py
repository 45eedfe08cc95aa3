"""Text from outside, made fit for a terminal or a log: what would act there is shown instead.

Workers, foreign processes, probed servers and whoever answers at a control socket choose their own
words.  A terminal obeys escapes (to clear, to retitle, to fill the clipboard) and lets U+202E turn
what follows around; a reader of logs may take U+2028 or a carriage return for a new line.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

# Controls (C0, DEL, C1), format characters, line and paragraph separators, lone surrogates.
_ACTS = {"Cc", "Cf", "Zl", "Zp", "Cs"}


class _Shown(dict[int, str]):
    """For str.translate, filled as characters are met; only what acts is remembered."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) not in _ACTS:
            return character
        for width, form in ((2, "\\x"), (4, "\\u"), (8, "\\U")):
            if code < 1 << 4 * width:
                self[code] = f"{form}{code:0{width}x}"
                break
        return self[code]


_FURTHER = re.compile(r"\n(?! )")
_SHOWN = _Shown()
_WITH_TAB = _Shown({9: "\t"})
_WITH_LINES = _Shown({9: "\t", 10: "\n"})


def visible(text: str, *, tabs: bool = False) -> str:
    r"""Each character that would act, as ``\x1b`` or ``\u2028``; nothing else is changed."""
    if text.isprintable():
        return text
    return text.translate(_WITH_TAB if tabs else _SHOWN)


def paragraph(text: str) -> str:
    """The same with its line ends kept, and every further line indented.

    So no line of it can be taken for one that Segue begins.
    """
    return _FURTHER.sub("\n  ", text.translate(_WITH_LINES))


def whole(plain: Any) -> Any:
    """The same for every string in what was JSON, keys included."""
    if isinstance(plain, str):
        return visible(plain)
    if isinstance(plain, int | float):  # most values of a status
        return plain
    if isinstance(plain, dict):
        return {visible(str(key)): whole(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [whole(one) for one in plain]
    return plain


def printable_json(line: bytes) -> bool:
    """Whether ``whole`` would change nothing in what this JSON says; False if that is not sure.

    A string of JSON has a control character only as an escape (RFC 8259, section 7).  So ASCII in
    which nothing is escaped but quotes and backslashes is printable, except DEL.
    """
    if b"\\" in line:
        line = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    return line.isascii() and not any(one in line for one in (b"\\", b"\x7f", b"\0"))


def as_json(plain: Any, *, indent: int | None = None) -> str:
    """JSON that a terminal may be shown: all but printable ASCII is escaped, DEL too."""
    return json.dumps(plain, indent=indent).replace("\x7f", "\\u007f")
