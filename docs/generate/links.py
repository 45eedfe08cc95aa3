"""Links of the pages to files outside docs/: these go into the site too, below ``source/``.

Pure.  Paths are relative to docs/; those of files outside begin with ``../``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

SOURCE = "source/"
_LINK = re.compile(r"(\]\()([^)\s#]+)([)#\s])")
# A link whose text is the name of its page, as in [RUN.md](RUN.md).
_NAMED = re.compile(r"\[(?:docs/)?([\w/]+\.md)\](\(([^)\s#]+)[^)]*\))")


def original(page: str) -> str:
    """Where a page of the site is in the repository."""
    return "../" + page.removeprefix(SOURCE) if page.startswith(SOURCE) else page


def placed(path: str) -> str:
    """Where a file of the repository is in the site."""
    return SOURCE + path.removeprefix("../") if path.startswith("../") else path


def _target(page: str, link: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(original(page)), link))
    return path.removeprefix("../docs/")


def _is_file(link: str) -> bool:
    return ":" not in link and not link.startswith("/")


def outside(page: str, text: str) -> set[str]:
    """The files outside docs/ that a page links to."""
    found = {_target(page, one[2]) for one in _LINK.finditer(text) if _is_file(one[2])}
    return {one for one in found if one.startswith("../")}


def rewritten(page: str, text: str) -> str:
    """The text of a page, with each link leading to the place of its file in the site."""

    def link(found: re.Match[str]) -> str:
        if not _is_file(found[2]):
            return found[0]
        place = placed(_target(page, found[2]))
        return found[1] + posixpath.relpath(place, posixpath.dirname(page) or ".") + found[3]

    return _LINK.sub(link, text)


def everything_outside(pages: dict[str, str], read: Callable[[str], str]) -> set[str]:
    """The files outside docs/ that pages link to, or that such files link to in turn.

    ``pages`` are texts by path; ``read`` gives the text of a path outside.
    """
    found: set[str] = set()
    open_pages = dict(pages)
    while open_pages:
        page, text = open_pages.popitem()
        for path in outside(page, text) - found:
            found.add(path)
            if path.endswith(".md"):
                open_pages[placed(path)] = read(path)
    return found


def titled(page: str, text: str, titles: dict[str, str]) -> str:
    """The text of a page, with titles in the place of file names; ``titles`` are by path."""

    def link(found: re.Match[str]) -> str:
        title = titles.get(placed(_target(page, found[3])))
        return f"[{title}]{found[2]}" if title and found[3].endswith(found[1]) else found[0]

    return _NAMED.sub(link, text)
