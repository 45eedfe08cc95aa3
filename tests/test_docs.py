"""What is in the repository, and that the documents name what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from segue.lab.stories import STORIES
from segue.model.profile import Difference, PostedError

ROOT = Path(__file__).parent.parent

# A file at the top is the first that a reader sees, so each one is a decision.
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "LICENSE.MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "bench",
    "changes",
    "deploy",
    "docs",
    "examples",
    "mkdocs.yml",
    "pyproject.toml",
    "src",
    "tests",
}
# Directories in which people and build machines keep their work, with something below them.
SOMEBODYS = re.compile(rb"(?<![\w.~}\]-])/(?:home|root|Users|work|workspace|builds?|tmp/\w+)/\w")

pytestmark = [
    pytest.mark.program("git"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy that git does not track"),
]


def tracked() -> list[str]:
    """The paths of all tracked files."""
    # The checkout may belong to another user, as in a container.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def machine_paths(content: bytes, checkout: Path = ROOT) -> list[bytes]:
    """The absolute paths of one machine in it: below somebody's directory, or of the checkout."""
    here = re.compile(re.escape(bytes(checkout)) + rb"(?![\w.-])")
    return [found[0] for found in (*SOMEBODYS.finditer(content), *here.finditer(content))]


def test_the_top_has_nothing_but_the_project() -> None:
    """Notes and results of somebody's work stay with them; a new name here changes the list."""
    assert {path.partition("/")[0] for path in tracked()} == TOP


def test_no_file_names_a_path_of_one_machine() -> None:
    """What is written here is true on every machine."""
    found = {
        path: paths
        for path in tracked()
        if (ROOT / path).is_file() and (paths := machine_paths((ROOT / path).read_bytes()))
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("see {home}/notes.txt", True),
        ("in {here}", True),
        ("in {here}-2", False),
        ("GET /home", False),
        ("https://example.org{home}/notes", False),
        ("/sys/kernel, /proc/1 and /run/segue are everybody's", False),
        ("{{directory}}{home}/notes", False),
    ],
)
def test_a_path_of_one_machine_is_recognised(text: str, is_one: bool) -> None:
    """Below a home or in the checkout; not a URL's path, nor a name that only begins alike."""
    checkout = Path("/srv/code/segue")
    written = text.format(home="/home" + "/somebody", here=checkout)
    assert bool(machine_paths(written.encode(), checkout)) is is_one


def facts() -> dict[str, list[str]]:
    """Short name -> what holds it, of docs/FACTS.md."""
    _, *sections = re.split(r"^## ", (ROOT / "docs" / "FACTS.md").read_text(), flags=re.MULTILINE)
    return {
        section.partition("\n")[0]: re.findall(r"^- (.+)$", section, re.MULTILINE)
        for section in sections
    }


def test_the_differences_are_told_as_the_model_tells_them() -> None:
    """Their table is that of the code, which ``segue lab explain`` prints."""
    text = (ROOT / "docs" / "MODEL.md").read_text()
    for one in Difference:
        assert f"| `{one.name}` | {one.series} | {one.linux} |" in text


def test_every_fact_that_is_cited_is_written_down() -> None:
    """By its short name, in code, tests and documents."""
    cited: dict[str, str] = {}
    for path in tracked():
        if path.endswith((".py", ".md")) and path != "docs/FACTS.md" and (ROOT / path).is_file():
            text = (ROOT / path).read_text()
            cited |= dict.fromkeys(re.findall(r"\bFACTS\b(?!\.md)(?:, ([\w-]+))?", text), path)
    assert {name: path for name, path in cited.items() if name not in facts()} == {}


def test_every_claim_about_security_names_tests_that_are_there() -> None:
    """Each row of the last table has some, and each is in the file that it is said to be in."""
    text = (ROOT / "docs" / "SECURITY.md").read_text()
    rows = text.rpartition("\n|---|---|\n")[2].split("\n\n")[0].splitlines()
    named = {row: re.findall(r"`([\w/]+\.py)::(\w+)`", row) for row in rows}
    assert all(named.values())
    gone = [
        f"{file}::{test}"
        for tests in named.values()
        for file, test in tests
        if f"\ndef {test}(" not in (ROOT / "tests" / file).read_text()
    ]
    assert gone == []


@pytest.mark.parametrize("name", facts())
def test_every_fact_is_held(name: str) -> None:
    """By a test or a story that is there, or by a command."""
    assert facts()[name]
    for holder in facts()[name]:
        file, colons, test = holder.partition("::")
        if holder.startswith("story: "):
            assert holder.removeprefix("story: ") in STORIES
        elif colons:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()
        else:
            assert holder.startswith("`python -m ")


# Pages that name many parts of the source; their paths are below one of these.
GUIDES = ("docs/ARCHITECTURE.md", "CONTRIBUTING.md")
BELOW = ("src/segue/supervisor", "src/segue", "")


def named_paths(text: str) -> set[str]:
    """Files and folders of the repository that a page names, also as the target of a link."""
    quoted = re.findall(r"`([\w.-]*\w(?:/[\w.-]*)*)`", text)
    paths = {one for one in quoted if "/" in one or one.endswith((".py", ".md"))}
    return paths | set(re.findall(r"\]\(([\w./-]+)\)", text))


def named_parts(text: str) -> set[str]:
    """Classes, their members, and functions."""
    classes = re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)?)`", text)
    return {*classes, *re.findall(r"`((?:\w+\.)?\w+)\(\)`", text)}


def missing_parts(names: set[str]) -> list[str]:
    """Those that no file of the source defines; a class and its member are in the same one."""
    sources = [
        (ROOT / path).read_text()
        for path in tracked()
        if path.startswith("src/") and path.endswith(".py") and (ROOT / path).is_file()
    ]
    lacking = []
    for name in sorted(names):
        first, _, member = name.partition(".")
        wanted = [rf"^(?:class |def |  +def ){first}\b|^{first}: TypeAlias"]
        wanted += [rf"^  +(?:def )?{member}\b *[:(]"] if member else []
        if not any(all(re.search(one, it, re.MULTILINE) for one in wanted) for it in sources):
            lacking.append(name)
    return lacking


@pytest.mark.parametrize("page", GUIDES)
def test_every_path_that_a_guide_names_is_there(page: str) -> None:
    """A reader who follows one finds the file or the folder."""
    paths = named_paths((ROOT / page).read_text())
    roots = [ROOT / one for one in (*BELOW, Path(page).parent)]
    lacking = {path for path in paths if not any((one / path).exists() for one in roots)}
    assert paths
    assert not lacking


@pytest.mark.parametrize("page", GUIDES)
def test_every_part_that_a_guide_names_is_there(page: str) -> None:
    """Classes, their members, and functions, by the names that they have in the source."""
    assert missing_parts(named_parts((ROOT / page).read_text())) == []


def test_what_a_guide_names_is_recognised() -> None:
    """Paths, links and parts; neither words of the kernel, nor commands, nor absolute paths."""
    text = (
        "`run/start.py` and `linux/`, [x](docs/X.md), `SO_COOKIE`, `/tmp`, `make test`, `Loop.run`,"
        " `Loop.fly`, `Nothing.run`, `nowhere()`"
    )
    assert named_paths(text) == {"run/start.py", "linux/", "docs/X.md"}
    assert named_parts(text) == {"Loop.run", "Loop.fly", "Nothing.run", "nowhere"}
    assert missing_parts(named_parts(text)) == ["Loop.fly", "Nothing.run", "nowhere"]


@pytest.mark.parametrize("page", ["MODEL.md", "SERIES.md"])
def test_every_difference_from_the_series_is_written_down(page: str) -> None:
    """Each by its name; where the posted code errs is on the page of the series."""
    text = (ROOT / "docs" / page).read_text()
    errors = [one.name for one in PostedError] if page == "SERIES.md" else []
    assert [one for one in (*Difference.__members__, *errors) if f"`{one}`" not in text] == []


def test_the_page_of_the_model_counts_the_stories() -> None:
    """Who adds one changes the number there."""
    assert f"has {len(STORIES)} stories" in (ROOT / "docs" / "MODEL.md").read_text()
