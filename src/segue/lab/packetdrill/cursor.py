"""Where the parser stands in the tokens, and how it says what it expected there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from segue.errors import ScriptError
from segue.lab.packetdrill.lexer import Kind, Token, tokens

_SHOWN = 20


def _defined(token: Token, defined: Mapping[str, str]) -> Token:
    if token.kind is not Kind.WORD or token.text not in defined:
        return token
    text = defined[token.text]
    return replace(token, kind=Kind.NUMBER if text.isdecimal() else Kind.WORD, text=text)


class Cursor:
    """Over the tokens of a script; all refusals are ScriptErrors at a token."""

    def __init__(self, text: str, file: str, defined: Mapping[str, str]) -> None:
        self._file = file
        self._text = text
        self._tokens = [_defined(one, defined) for one in tokens(text, file)]
        self._at = 0

    @property
    def token(self) -> Token:
        """The next one; it stays the next."""
        return self._tokens[self._at]

    def ahead(self, by: int = 1) -> Token:
        """One further on."""
        return self._tokens[min(self._at + by, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next one, and go on; the END is never passed."""
        token = self.token
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def text(self, first: Token) -> str:
        """From that token up to here, in one line."""
        end = self._tokens[self._at - 1].end if self._at else first.end
        return " ".join(self._text[first.start : end].split())

    def is_symbol(self, text: str) -> bool:
        """The next one is this sign."""
        return self.token.kind is Kind.SYMBOL and self.token.text == text

    def is_word(self, *names: str) -> bool:
        """The next one is one of these words."""
        return self.token.kind is Kind.WORD and self.token.text in names

    def symbol(self, text: str) -> bool:
        """Go past this sign, if it is the next."""
        found = self.is_symbol(text)
        if found:
            self.take()
        return found

    def word(self, *names: str) -> bool:
        """Go past one of these words, if it is the next."""
        found = self.is_word(*names)
        if found:
            self.take()
        return found

    def need(self, text: str, where: str) -> Token:
        """This sign must be next."""
        if not self.is_symbol(text):
            self.refuse(f"expected {text!r} {where}")
        return self.take()

    def need_word(self, what: str) -> str:
        """A word must be next."""
        if self.token.kind is not Kind.WORD:
            self.refuse(f"expected {what}")
        return self.take().text

    def number(self, what: str, most: int, *, negative: bool = False) -> int:
        """A whole number up to ``most`` must be next."""
        first = self.token
        sign = -1 if negative and self.symbol("-") else 1
        if self.token.kind is not Kind.NUMBER:
            self.refuse(f"expected {what}")
        text = self.take().text
        value = int(text, 16) if text[:2] in {"0x", "0X"} else int(text)
        if value > most:
            self.refuse(f"{what} is at most {most}", first)
        return sign * value

    def refuse(self, why: str, token: Token | None = None) -> NoReturn:
        """Raises ScriptError, with what stands there."""
        at = token or self.token
        if token is None:
            shown = at.text if len(at.text) <= _SHOWN else at.text[:_SHOWN] + "..."
            why += f", not {'the end' if at.kind is Kind.END else repr(shown)}"
        raise ScriptError(self._file, at.place.line, at.place.column, why)
