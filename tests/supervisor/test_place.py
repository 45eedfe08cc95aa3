"""Where a worker starts, and by which name: a directory of the moment, and what is said without."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from segue.cli.run import by_name
from segue.errors import StartRefused
from segue.supervisor.source import Source, digest, started_in
from segue.supervisor.workers.place import Place, program, why_not


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """A link to the first of two releases."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("1")
    return link


def switch(link: Path, target: str) -> None:
    """As deploys do: the name has a meaning at every moment."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def opened(place: Place) -> str:
    """The path that the kernel has for what it opens."""
    descriptor = place.open()
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_a_link_in_the_name_is_followed_at_each_start(current: Path) -> None:
    """The name stands for another directory after a deploy."""
    place = Place(str(current))
    assert opened(place) == str(current.parent / "1")
    switch(current, "2")
    assert opened(place) == str(current.parent / "2")


def test_what_the_name_led_to_once_is_found_again(current: Path) -> None:
    """As long as it is there, and by the name if that leads there anyway."""
    place, first = Place(str(current), chosen=True), str(current.parent / "1")
    assert place.back_to(first) == place
    switch(current, "2")
    assert place.back_to(first) == Place(first, chosen=True)
    (current.parent / "1").rmdir()
    assert place.back_to(first) == place
    current.unlink()
    assert place.back_to(str(current.parent / "2")) == Place(str(current.parent / "2"), chosen=True)


def test_the_name_of_the_shell_counts_if_it_leads_here(
    current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PWD that a program did not change with its directory is not believed."""
    here = str(current.parent / "1")
    monkeypatch.chdir(current)
    assert started_in({"PWD": str(current)}) == str(current)
    for wrong in ("", ".", "/", str(current.parent / "2"), "/nowhere", f"{current}/../1"):
        assert started_in({"PWD": wrong}) == here
    assert started_in({}) == here


def test_a_directory_that_was_removed_keeps_its_name(
    current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gets its name is meant; the shell still has it where the kernel has none."""
    monkeypatch.chdir(current)
    shutil.rmtree(current.parent / "1")
    assert started_in({"PWD": str(current)}) == str(current)
    assert started_in({}) == "/"


def test_what_is_gone_is_named_with_the_link_that_leads_there(current: Path) -> None:
    """One sentence says which name, where it leads, and what to do."""
    (current.parent / "1").rmdir()
    with pytest.raises(StartRefused) as refused:
        Place(f"{current}/app").open()
    assert str(refused.value) == (
        f"workers start in {current}/app, which is gone ({current} is a link to 1): switch the"
        " link to a directory that exists"
    )
    current.unlink()
    with pytest.raises(StartRefused, match=r"which is gone: make it again$"):
        Place(str(current)).open()


def test_a_program_is_found_as_exec_finds_it(current: Path) -> None:
    """By PATH, or from the directory it starts in; links in the way to it are resolved."""
    where = str(current.parent / "1")
    (current / "bin").mkdir()
    for name in ("server", "data"):
        (current / "bin" / name).write_text("#!/bin/sh\n")
    (current / "bin" / "server").chmod(0o755)
    (current / "bin" / "python").symlink_to("server")
    assert program("bin/server", None, where) == f"{where}/bin/server"
    assert program("server", f"/none:{current}/bin", "/") == f"{where}/bin/server"
    assert program("python", f"{current}/bin", "/") == f"{where}/bin/python"
    for name in ("bin/data", "bin", "./none", "none"):
        assert program(name, f"{current}/bin", where) == ""


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "workers start in /a, which is gone: make it again"),
        (errno.ENOTDIR, "workers start in /a, which is no directory: give another --chdir"),
        (errno.EACCES, "workers start in /a, which cannot be opened: Permission denied"),
        (errno.ELOOP, "workers start in /a, which cannot be opened: Too many levels of symbolic"),
    ],
)
def test_each_refusal_has_its_sentence(number: int, said: str) -> None:
    """It names the directory and never the server."""
    assert why_not("/a", number).startswith(said)


def test_a_user_who_cannot_enter_is_named() -> None:
    """With both ways out."""
    assert str(Place("/srv/web", chosen=True).refused("the user web")) == (
        "workers start in /srv/web, which the user web cannot enter: let it enter, or give another"
        " --chdir"
    )


def test_relative_paths_are_of_the_file_or_of_the_start() -> None:
    """They become absolute by name; a policy of the library and other settings stay."""
    given = {"chdir": "web", "output_file": "log", "object": "/o", "policy": "p.py:f", "workers": 2}
    assert by_name(given, "/srv/current") == {
        "chdir": "/srv/current/web",
        "output_file": "/srv/current/log",
        "object": "/o",
        "policy": "/srv/current/p.py:f",
        "workers": 2,
    }
    assert by_name({"policy": "sticky", "object": ""}, "/srv") == {"policy": "sticky", "object": ""}


def test_a_file_that_is_not_as_it_was_read_is_named(tmp_path: Path) -> None:
    """Its content counts: a deploy gives each file a new inode and a new time."""
    file = tmp_path / "segue.toml"
    none = Source(str(tmp_path))
    assert none.changed() == ""
    file.write_text("workers = 2\n")
    assert none.changed() == f"{file} is new since the settings were read: segue reexec reads it"
    read = Source(str(tmp_path), str(file), digest(file.read_bytes()))
    file.unlink()
    assert read.changed() == f"{file} is gone since the settings were read from it"
    file.write_text("workers = 2\n")
    assert read.changed() == ""
    file.write_text("workers = 3\n")
    changed = f"{file} has changed since it was read: segue reexec reads it"
    assert read.changed() == changed
    file.write_text("workers = 2\n")
    file.chmod(0o666)  # segue reexec says what is wrong with it
    assert read.changed() == changed


def test_a_source_comes_back_as_it_was() -> None:
    """Also one that a later version wrote, with more in it."""
    source = Source("/srv/current", "/srv/current/segue.toml", "d1")
    assert Source.from_json(source.to_json() | {"later": "x"}) == source


def test_a_link_that_is_switched_during_the_look_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look that finds nothing and the sentence about it."""
    (tmp_path / "two").mkdir()
    link = tmp_path / "current"
    link.symlink_to("one")

    def switched(place: Place) -> str:
        link.unlink()
        link.symlink_to("two")
        return ""

    monkeypatch.setattr(Place, "_link", switched)
    assert Place(str(link)).resolved() == str(tmp_path / "two")
