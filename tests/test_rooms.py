"""The house: which room may import which, and which names may appear where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "segue"

# Top to bottom is the way the data goes: a room imports itself, rooms above it, and leaves.
ROOMS = [
    "version",
    "visible",
    "errors",
    "strict_json",
    "page",
    "worker",
    "address",
    "group",
    "shares",
    "policy",
    "observe",
    "engine",
    "supervisor",
    "metrics",
    "install",
    "watch",
    "probe",
    "lab",
    "plan",
    "asgi",
    "wsgi",
    "cli",
    "__main__",
]
# Leaves are usable alone: from Segue they import only the errors, the address and
# what makes text visible.
LEAVES = ["linux", "bpf", "wire", "model"]
BELOW_A_LEAF = {"errors", "address", "group", "visible"}
# bpf(2) loads what the assembler made, and the model speaks packets; never the reverse.
BETWEEN_LEAVES = {("linux", "bpf"), ("model", "wire")}
# Within the supervisor, in the same order; the last two never meet.
SUPERVISOR = [
    *(
        "loop",
        "allowance",
        "lifecycle",
        "notify",
        "control",
        "question",
        "settings",
        "source",
        "inherited",
        "front",
    ),
    *("workers", "rescue", "world"),
]
INSTANCES = ["attach", "run"]
# A socket knows its listener, that its group, and both what waits in them, as in the kernel.
KERNEL_CIRCLE = {f"segue.model.{one}" for one in ("connection", "group", "listener", "request")}
# Pure rooms decide; they cannot do I/O.
PURE = [
    "visible.py", "errors.py", "strict_json.py", "page.py", "address.py", "group.py", "shares.py",
    "policy", "bpf", "wire", "model",
]  # fmt: skip
PURE_FILES = [
    "engine/audit.py",
    "lab/link.py",
    *(f"lab/packetdrill/{name}.py" for name in ("asserts", "commands", "cursor", "expressions")),
    *(f"lab/packetdrill/{name}.py" for name in ("lexer", "options", "packets", "parser", "script")),
    *(f"lab/comparing/{name}.py" for name in ("clients", "ledger", "service", "settings")),
    "lab/ways",
    "linux/bpf_attr.py",
    "linux/schedstat.py",
    "observe/balance.py",
    "observe/carrying.py",
    "observe/kept.py",
    "observe/request_head.py",
    "observe/answer.py",
    "metrics/families.py",
    "metrics/table.py",
    "observe/stall.py",
    "watch/sample.py",
    *(f"plan/{name}.py" for name in ("advice", "given", "load", "moment", "plain")),
    *(f"plan/{name}.py" for name in ("simulate", "spread", "sweep", "ways")),
    "supervisor/control/requests.py",
    "supervisor/control/status.py",
    "supervisor/lifecycle",
    "supervisor/allowance.py",
]
# Calls that make, change or remove what has a name in a directory.
BY_NAME = {
    "chmod", "chown", "link", "makedirs", "mkdir", "mkfifo", "remove", "rename", "replace", "rmdir",
    "symlink", "unlink",
}  # fmt: skip
NOT_PURE = {"os", "time", "random", "threading", "subprocess", "select", "selectors", "ctypes"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module a file imports, dotted, wherever the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    """An import points into the same room, upwards, or to a leaf."""
    here = room(path)
    if here == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "segue" or len(parts) < 2:
            continue
        there = parts[1]
        if there == here:
            continue
        if here in LEAVES:
            assert there in BELOW_A_LEAF or (here, there) in BETWEEN_LEAVES, f"{here} -> {name}"
        elif there not in LEAVES:
            assert ROOMS.index(there) < ROOMS.index(here), f"{here} -> {name}"


def supervisor_files() -> list[Path]:
    return [path for path in files() if room(path) == "supervisor"]


@pytest.mark.parametrize("path", supervisor_files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_within_the_supervisor_point_one_way(path: Path) -> None:
    """What an instance is made of does not know the instance, and the two kinds share no more."""
    for name in imports(path):
        parts = name.split(".")
        if parts[:2] != ["segue", "supervisor"] or len(parts) < 3:
            continue
        here = path.relative_to(SOURCE / "supervisor").parts[0].removesuffix(".py")
        there = parts[2]
        if there == here:
            continue
        assert there in SUPERVISOR, f"{here} -> {name}"
        if here not in INSTANCES:
            assert SUPERVISOR.index(there) < SUPERVISOR.index(here), f"{here} -> {name}"


def test_every_room_of_the_supervisor_is_in_the_order() -> None:
    """One that is new has a place in it."""
    found = {path.relative_to(SOURCE / "supervisor").parts[0] for path in supervisor_files()}
    found = {name.removesuffix(".py") for name in found}
    assert found - {"__init__"} == {*SUPERVISOR, *INSTANCES}


def circles(top: Path) -> list[set[str]]:
    """Files below the package ``top`` that import each other, by way of whichever files between.

    Imports under TYPE_CHECKING and within functions count: a reader follows them, too.
    """
    # A package's own file holds a sentence, or, as at the top, imports on first use.
    named = {
        ".".join(path.relative_to(top.parent).with_suffix("").parts): path
        for path in top.rglob("*.py")
        if path.name != "__init__.py"
    }
    arrows = {name: (imports(path) & named.keys()) - {name} for name, path in named.items()}

    def beyond(start: str) -> set[str]:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            more = arrows[ahead.pop()] - found
            found |= more
            ahead += more
        return found

    reached = {name: beyond(name) for name in named}
    known: list[set[str]] = []
    for name in sorted(named):
        if name in reached[name] and not any(name in circle for circle in known):
            known.append({other for other in reached[name] if name in reached[other]})
    return known


def test_no_file_imports_itself_by_way_of_others() -> None:
    """But in the model, whose circle is the kernel's own."""
    assert circles(SOURCE) == [KERNEL_CIRCLE]


@pytest.mark.parametrize(
    "back",
    [
        "from top import first",
        "import top.first",
        "def late():\n    from top.first import it",
        "if TYPE_CHECKING:\n    from top.first import it",
    ],
)
def test_a_circle_is_found_however_it_is_closed(back: str, tmp_path: Path) -> None:
    """With all the files that it leads through, and without those that lead to it."""
    top = tmp_path / "top"
    top.mkdir()
    for name, text in {
        "outside": "from top.first import it",
        "first": "from top.between import it",
        "between": "from top.last import it",
        "last": back,
    }.items():
        (top / f"{name}.py").write_text(text)
    assert circles(top) == [{"top.first", "top.between", "top.last"}]
    (top / "last.py").write_text("")
    assert circles(top) == []


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_kernel_constants_stay_in_their_leaf(path: Path) -> None:
    """The modules ctypes and fcntl.ioctl live in linux/ only; struct there, in wire/ and bpf/."""
    here, found = room(path), imports(path)
    if here != "linux":
        assert "ctypes" not in found
        assert "fcntl.ioctl" not in path.read_text()
    if here not in {"linux", "wire", "bpf"}:
        assert "struct" not in found


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_linux_changes_what_a_name_stands_for(path: Path) -> None:
    """Elsewhere what has a path may be somebody else's by then: ``linux/openat`` looks first."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            named = node.value.id == "os" and node.attr in BY_NAME
            assert room(path) == "linux" or not named, f"os.{node.attr} in line {node.lineno}"


def pure_files() -> list[Path]:
    found: list[Path] = []
    for name in PURE + PURE_FILES:
        where = SOURCE / name
        found += sorted(where.rglob("*.py")) if where.is_dir() else [where]
    return found


def impure(path: Path, pure: list[Path]) -> set[str]:
    """What it imports and may not: the system, and files of Segue that are not pure."""
    found = imports(path) & NOT_PURE
    for name in imports(path):
        file = SOURCE.parent / f"{name.replace('.', '/')}.py"
        # A package's own file holds a sentence, or, as at the top, imports on first use.
        if file.is_file() and file not in pure:
            found.add(name)
    return found


@pytest.mark.parametrize("name", ROOMS + LEAVES + PURE + PURE_FILES)
def test_every_room_that_is_named_is_there(name: str) -> None:
    """A rule for what was renamed would hold nothing."""
    assert (SOURCE / name).exists() or (SOURCE / f"{name}.py").is_file()


@pytest.mark.parametrize("path", pure_files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_pure_files_cannot_do_io(path: Path) -> None:
    """Facts in, decisions out: no clock, chance, process or descriptor, nor through an import."""
    if path.name != "errors.py":  # it names errno values, and asks nothing of the system
        assert not impure(path, pure_files())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("from os import read", {"os"}),
        ("from segue.linux import proc", {"segue.linux.proc"}),
        ("from segue.linux.proc import tree", {"segue.linux.proc"}),
        ("def late():\n    import segue.linux.proc", {"segue.linux.proc"}),
        ("from segue.model import events; import struct", set()),
        ("from segue.errors import UsageError", set()),
    ],
)
def test_what_is_not_pure_is_found(source: str, found: set[str], tmp_path: Path) -> None:
    """Of the system and of Segue, however it is imported."""
    path = tmp_path / "one.py"
    path.write_text(source)
    assert impure(path, pure_files()) == found


def test_no_file_is_longer_than_700_lines() -> None:
    """Above 700 lines a file has more than one subject."""
    for path in files() + sorted(Path(__file__).parent.rglob("*.py")):
        assert len(path.read_text().splitlines()) <= 700, path
