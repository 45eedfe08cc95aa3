"""The site: it can be built, needs no other host, and its made pages are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from docs.generate import commands, links, man, picture, python, reference
from docs.generate.markdown import escaped, table
from docs.generate.pages import PAGES
from tests.docs.pages import ROOT

import segue
from segue.cli import probe
from segue.cli.main import COMMANDS, EXIT_CODES
from segue.metrics.table import METRICS
from segue.supervisor.control.requests import VERBS
from segue.supervisor.settings import KEYS

# What a browser gets by itself, unlike a link that somebody follows.
LOADED = re.compile(r"""<(?:script|img|iframe|source|link(?! rel="(?:canonical|next|prev)"))\b[^>]*?
                    \b(?:src|href)=["']?(?:https?:)?//[^"'>]+""", re.VERBOSE)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it: a broken link fails it."""
    where = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(where)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return where


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """Who reads it without a network sees all of it."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert {str(one): found for one in pages if (found := LOADED.findall(one.read_text()))} == {}
    styles = [one.read_text() for one in site.rglob("*.css")]
    assert styles
    assert not [found for text in styles for found in re.findall(r"url\(['\"]?https?:", text)]


def test_the_search_works_from_a_disk(site: Path) -> None:
    """Its index is a script, and each page loads the stand-in for a worker."""
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = ")
    for page in site.rglob("*.html"):
        assert re.search(r'<script src="(?:\.\./|/)*iframe-worker\.js">', page.read_text()), page


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """A page that no other names is not found by anybody."""
    home = (site / "index.html").read_text()
    written = [one.relative_to(ROOT / "docs").as_posix() for one in (ROOT / "docs").rglob("*.md")]
    for page in (*written, *PAGES):
        assert re.search(rf'href="{re.escape(page.removesuffix(".md"))}.html"', home) or (
            page == "index.md"
        ), page


def test_what_is_loaded_is_recognised() -> None:
    """Scripts, styles and pictures of other hosts; not links."""
    assert LOADED.search('<script async src="https://x.example/y.js">')
    assert LOADED.search('<link rel="stylesheet" href="//x.example/y.css">')
    assert not LOADED.search('<a href="https://x.example/">')
    assert not LOADED.search('<img src="start/picture.svg">')


def test_the_page_of_commands_has_every_command_and_option() -> None:
    """Also those that are below another."""
    page = commands.page()
    for one in commands.commands():
        assert f"{{#{one.anchor}}}" in page
        for names, _ in one.options:
            assert f"| `{names}` |" in page
    assert {f"segue-{name}" for name in COMMANDS} <= {one.anchor for one in commands.commands()}


def test_lines_that_click_keeps_stay_lines() -> None:
    """An example can be copied from the page."""
    page = commands.page()
    assert "\nsegue probe 127.0.0.1:5432 --hold 3 --count 500 --fail-on-loss\n" in page
    assert "\b" not in page


def test_every_command_has_a_man_page() -> None:
    """With a name, a synopsis and options, and nothing that roff would take for a request."""
    pages = man.pages()
    assert set(pages) == {f"{one.anchor}.1" for one in commands.commands()}
    for text in pages.values():
        assert ".SH NAME\n" in text
        assert not [line for line in text.splitlines() if re.match(r"'|\.(?!TH|SH|TP|PP)", line)]
    assert "\\-\\-canary PERCENT" in pages["segue-restart.1"]
    assert "segue\\-policy\\-list(1)" in pages["segue-policy.1"]


def test_text_is_shown_by_roff_as_it_is() -> None:
    """Options keep their dashes, and no line becomes a request."""
    assert man.roff("--x a\\b") == "\\-\\-x a\\eb"
    assert man.roff(".TH") == "\\&.TH"


def test_man_pages_are_written(tmp_path: Path) -> None:
    """Into a directory that need not be there."""
    man.main(str(tmp_path / "new" / "man"))
    assert (tmp_path / "new" / "man" / "segue-run.1").read_text().startswith('.TH "SEGUE-RUN" "1"')


def test_the_reference_is_whole() -> None:
    """Every setting, metric, verb, exit code and public name has its place there."""
    assert [key for key in KEYS if f"| `{key}` |" not in reference.settings()] == []
    assert [one for one in METRICS if f"| `{one.exposed}` |" not in reference.metrics()] == []
    assert [verb for verb in VERBS if f"\n## {verb}\n" not in reference.protocol()] == []
    assert {f"segue.{name}" for name in segue.__all__} <= set(python.names())
    assert "Draining(app: Application)\n" in python.page()
    assert "\nVerdict.DROP\nVerdict.PASS\n" in python.page()
    assert "draining() -> bool\n" in python.page()
    assert [path for path in python.names() if f"\n### {path}\n" not in python.page()] == []


def test_the_exit_codes_are_those_of_the_guide() -> None:
    """One table in two places; segue probe has another."""
    guide = (ROOT / "docs" / "RUN.md").read_text()
    for number, text in EXIT_CODES.items():
        assert f"| {number} | {text} |" in guide
        assert f"| `{number}` | {text} |" in reference.exit_codes()
    guide, page = (ROOT / "docs" / "PROBE.md").read_text(), man.pages()["segue-probe.1"]
    for number, text in probe.EXIT_CODES.items():
        assert f"| {number} | {text} |" in guide
        assert f"\\fB{number}\\fR\n{man.roff(text)}\n" in page
    assert "superseded" not in page


def test_markdown_shows_text_as_it_is() -> None:
    """What has a meaning in Markdown loses it; a table has a line for its head."""
    assert escaped("a_b|<c> [d]") == "a\\_b\\|\\<c> \\[d\\]"
    assert table(("x", "y"), [("1", "2")]) == "| x | y |\n| --- | --- |\n| 1 | 2 |\n"


def test_links_out_of_the_documents_lead_into_the_site() -> None:
    """Their files are there too, and so are those that these link to."""
    read = {"../bench/RESULTS.md": "[a](../docs/RUN.md#logs) [b](../examples/x.py)"}
    pages = {"MODEL.md": "[r](../bench/RESULTS.md#speed), [h](https://x.example/../y)"}
    assert links.everything_outside(pages, read.__getitem__) == {
        "../bench/RESULTS.md",
        "../examples/x.py",
    }
    assert links.rewritten("MODEL.md", pages["MODEL.md"]).startswith("[r](source/bench/RESULTS.md#")
    assert links.rewritten("source/bench/RESULTS.md", read["../bench/RESULTS.md"]) == (
        "[a](../../RUN.md#logs) [b](../examples/x.py)"
    )
    assert links.titled(
        "X.md", "[docs/RUN.md](RUN.md#a) [RUN.md](Y.md)", {"RUN.md": "Running"}
    ) == ("[Running](RUN.md#a) [RUN.md](Y.md)")
    assert links.rewritten("start/node.md", "[s](../SERVERS.md)") == "[s](../SERVERS.md)"


def test_the_picture_shows_what_the_reports_say() -> None:
    """Losses in words and as a bar, and the marks of Segue's restart; titles are only text."""
    slices = [
        {"at_s": 0.0, "ok": 9, "lost": {}},
        {"at_s": 0.05, "ok": 0, "lost": {"eof": 2}},
    ]
    report = {
        "lost": 2, "total": 1200, "gap_ms": 141.2, "segue": None,
        "timeline": {"slice_s": 0.05, "slices": slices, "span": {"begin_s": 0.05}},
    }  # fmt: skip
    better = report | {
        "lost": 0,
        "segue": {"marks": [{"at_s": 1, "text": "x"}, {"at_s": 2, "text": "it serves"}]},
    }
    made = picture.picture({"a <b>": report, "c": better})
    assert "2 of 1,200 requests lost; longest time without an answer: 141 ms" in made
    assert "none of 1,200 requests lost" in made
    assert "a &lt;b&gt;" in made
    assert "it serves" in made
    assert ET.fromstring(made).tag.endswith("svg")


def test_the_drawn_pictures_are_whole() -> None:
    """Each is an SVG that loads nothing."""
    for one in (ROOT / "docs").rglob("*.svg"):
        text = one.read_text()
        assert ET.fromstring(text).tag.endswith("svg")
        assert not re.search(r"href=|url\(", text)
