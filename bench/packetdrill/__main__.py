"""``python -m bench packetdrill DIRECTORY``: every .pkt file below it, on Linux and on the model.

Instead of a directory it may be Debian's package linux-source-VERSION, whose own scripts are then
unpacked to a temporary place.  Prints each script with what became of it, and the reason where it
did not pass; then how many there are of each.  As root.  The exit code is 1 if the model does not
do what Linux does and the script says.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness import apart
from segue.errors import KernelError, NotSupported, ScriptError
from segue.lab.packetdrill import telling
from segue.lab.packetdrill.judge import Result
from segue.lab.packetdrill.parser import parse

_SCRIPTS = "/net/packetdrill/"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one script; a side is None where it was not told."""

    name: str
    linux: bool | None
    model: bool | None
    why: str = ""

    def __str__(self) -> str:
        words = {True: "passes", False: "differs", None: "-"}
        return f"{self.name:60} {words[self.linux]:8} {words[self.model]:8} {self.why}".rstrip()


def main(args: Sequence[str] | None = None) -> int:
    """0; 1 when the model differs where Linux passes; 2 for usage, or without root."""
    reader = argparse.ArgumentParser(
        prog="python -m bench packetdrill", description=__doc__.split("\n")[0]
    )
    reader.add_argument("where", type=Path, metavar="DIRECTORY", help="or linux-source-*.deb")
    reader.add_argument(
        "names", nargs="*", metavar="NAME", help="only those with this in their path"
    )
    reader.add_argument("--ipv6", action="store_true")
    reader.add_argument("--model", action="store_true", help="only the model: needs no root")
    reader.add_argument("--tries", type=int, default=telling.TRIES, help="on Linux (%(default)s)")
    asked = reader.parse_args(args)
    if not asked.model and not apart():
        sys.stderr.write("python -m bench packetdrill needs root, for a network namespace\n")
        return 2
    with tempfile.TemporaryDirectory() as place:
        top = _unpacked(asked.where, Path(place)) if asked.where.is_file() else asked.where
        paths = [
            path
            for path in sorted(top.rglob("*.pkt"))
            if not asked.names or any(name in str(path) for name in asked.names)
        ]
        rows = []
        for path in paths:
            name = str(path.relative_to(top))
            rows.append(row(path, name, 6 if asked.ipv6 else 4, 0 if asked.model else asked.tries))
            print(rows[-1], flush=True)
    return _sum(rows)


def row(path: Path, name: str, version: int, tries: int) -> Row:
    """Told to Linux as often as that, at most, and to the model."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        script = parse(text, name, telling.defined(version))
        terms = telling.terms(script, version)
    except ScriptError as error:
        return Row(name, None, None, f"not asked: {error.why}")
    refused = telling.refusal(script)
    if refused is not None:
        return Row(name, None, None, f"not asked: {refused}")
    linux: Result | None = None
    if tries:
        try:
            linux = telling.to_linux(script, terms, tries)
        except (KernelError, NotSupported) as error:
            return Row(name, None, None, str(error))
    model = telling.to_model(script, terms)
    why = []
    for side, result in (("Linux", linux), ("model", model)):
        if result is not None and result.at is not None:
            event = script.events[result.at]
            why.append(f"{side}, line {event.place.line}, {event.text[:60]}: {result.why}")
    return Row(name, None if linux is None else linux.passed, model.passed, "; ".join(why))


def _unpacked(package: Path, place: Path) -> Path:
    """The scripts of a package of the kernel's source."""
    subprocess.run(["dpkg-deb", "-x", package, place / "package"], check=True)
    (archive,) = (place / "package").rglob("linux-source-*.tar.*")
    with tarfile.open(archive, "r|*") as source:
        for member in source:
            if _SCRIPTS in member.name and member.name.endswith(".pkt"):
                source.extract(member, place / "scripts", filter="data")
    return place / "scripts"


def _sum(rows: list[Row]) -> int:
    asked = [one for one in rows if one.linux is not None or one.model is not None]
    print(f"\n{len(rows)} scripts, {len(rows) - len(asked)} not asked, of which")
    reasons = Counter(one.why.removeprefix("not asked: ") for one in rows if one not in asked)
    for why, count in reasons.most_common():
        print(f"{count:5} {why}")
    told = [one for one in asked if one.linux is not None]
    on_linux = [one for one in told if one.linux]
    behind = [one for one in on_linux if not one.model]
    if told:
        print(f"Linux passes {len(on_linux)} of {len(told)}; of these the model passes", end=" ")
        print(f"{len(on_linux) - len(behind)}")
    print(f"the model passes {sum(bool(one.model) for one in asked)} of {len(asked)}")
    return min(len(behind), 1)


if __name__ == "__main__":
    sys.exit(main())
