"""The headings of Troubleshooting are sentences that Segue prints; figures have their command."""

from __future__ import annotations

import re

import pytest
from bench.cases import CASES
from tests.docs.pages import PAGES, ROOT
from tests.docs.sentences import sentences

PAGE = (ROOT / "docs" / "TROUBLESHOOTING.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
ALL = sentences()


def test_the_page_has_headings() -> None:
    """Under each is what to do."""
    assert len(HEADINGS) > 15
    assert not re.search(r"^### .+\n+#", PAGE, re.MULTILINE)


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_a_sentence_of_the_source(heading: str) -> None:
    """Who searches for what Segue printed finds it."""
    assert any(heading.strip(" …;:") in one for one in ALL)


def test_every_case_of_the_bench_that_a_page_names_is_there() -> None:
    """The command beside a figure can be typed."""
    program = (ROOT / "bench" / "__main__.py").read_text()
    names = {case.name for case in CASES}
    names |= set(re.findall(r'sys\.argv\[1:2\] == \["([\w-]+)"\]', program))
    for page in PAGES:
        for name in re.findall(r"python -m bench ([a-z][\w-]+)", page.read_text()):
            assert name in names, f"{page.name} names {name}"
