"""A script as tokens, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from segue.errors import ScriptError
from segue.lab.packetdrill.script import Place


class Kind(Enum):
    """What a token is."""

    NUMBER = auto()  # 12, 0x1f
    FLOAT = auto()  # .1, 0.25
    WORD = auto()  # also hexadecimal digits that begin with a number
    STRING = auto()  # without its marks
    COMMAND = auto()  # between backticks
    CODE = auto()  # between %{ and }%
    OPTION = auto()  # --name=value
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """``start`` and ``end`` are where it stands in the script."""

    kind: Kind
    text: str
    place: Place
    start: int
    end: int


_LONGEST_NUMBER = 24  # digits; what is longer is no number that a packet or a call could have
_NEXT = re.compile(
    r"""
      (?P<blank>   [ \t\r\n\f\v]+ | //[^\n]* | \#[^\n]* | /\*.*?\*/ )
    | (?P<option>  --[a-zA-Z_]\w*(?:=[^\s]*)? )
    | (?P<code>    %\{.*?\}% )
    | (?P<command> `[^`]*` )
    | (?P<string>  "(?:\\.|[^"\\\n])*" )
    | (?P<hex>     0[xX][0-9a-fA-F]+\b )
    | (?P<float>   [0-9]*\.[0-9]+ (?![0-9]) )
    | (?P<number>  [0-9]+ (?![0-9A-Za-z_]) )
    | (?P<word>    [A-Za-z0-9_]+ )
    | (?P<symbol>  \.\.\. | [-+*~<>.:,()\[\]{}=|!] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_KINDS = {
    "option": Kind.OPTION, "code": Kind.CODE, "command": Kind.COMMAND, "string": Kind.STRING,
    "hex": Kind.NUMBER, "float": Kind.FLOAT, "number": Kind.NUMBER, "word": Kind.WORD,
    "symbol": Kind.SYMBOL,
}  # fmt: skip
_OPEN = {"`": "a backtick ends the command", '"': 'a " ends the string', "%": "}% ends the code",
         "/": "*/ ends the comment"}  # fmt: skip
_MARKS = {Kind.STRING: 1, Kind.COMMAND: 1, Kind.CODE: 2}


def tokens(text: str, file: str) -> list[Token]:
    """All of them, an END last.  Raises ScriptError."""
    found: list[Token] = []
    at, line, line_start = 0, 1, 0
    while at < len(text):
        place = Place(line, at - line_start + 1)
        match = _NEXT.match(text, at)
        if match is None:
            raise ScriptError(file, place.line, place.column, _why(text[at]))
        name, end = match.lastgroup or "", match.end()
        if name != "blank":
            kind = _KINDS[name]
            if kind in {Kind.NUMBER, Kind.FLOAT} and end - at > _LONGEST_NUMBER:
                why = f"a number has at most {_LONGEST_NUMBER} digits"
                raise ScriptError(file, place.line, place.column, why)
            cut = _MARKS.get(kind, 0)
            found.append(Token(kind, text[at + cut : end - cut], place, at, end))
        breaks = text.count("\n", at, end)
        if breaks:
            line += breaks
            line_start = text.rindex("\n", at, end) + 1
        at = end
    return [*found, Token(Kind.END, "", Place(line, at - line_start + 1), at, at)]


def _why(character: str) -> str:
    if character in _OPEN:
        return f"nothing ends what {character} begins: {_OPEN[character]}"
    return f"{character!r} means nothing in a script"
