"""What changes/ gives at a release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.supervisor.instance import ROOT


def test_the_changes_become_a_section(tmp_path: Path) -> None:
    """Every file is in it, once, below its kind, and is deleted; what was there before stays."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    changes = tmp_path / "changes"
    changes.mkdir()
    for name in ("README.md", "template.md.jinja"):
        shutil.copy(ROOT / "changes" / name, changes)
    (changes / "one.added.md").write_text("`segue one` is new,\nin two lines.\n")
    (changes / "two.fixed.md").write_text("It no longer fails.\n")
    before = (tmp_path / "CHANGELOG.md").read_text()
    options = ("--yes", "--version", "9.9", "--date", "today")
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", *options],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    text = (tmp_path / "CHANGELOG.md").read_text()
    section = (
        "## 9.9, today\n\n### Added\n\n- `segue one` is new, in two lines.\n\n"
        "### Fixed\n\n- It no longer fails.\n"
    )
    assert section in text
    assert set(before.splitlines()) <= set(text.splitlines())
    assert sorted(one.name for one in changes.iterdir()) == ["README.md", "template.md.jinja"]


def test_every_change_has_a_kind() -> None:
    """A file with another name would never be gathered."""
    for one in (ROOT / "changes").iterdir():
        if one.name not in {"README.md", "template.md.jinja"}:
            assert one.suffixes[-2:] in ([f".{kind}", ".md"] for kind in KINDS), one.name
            assert one.read_text().strip(), one.name


KINDS = ("added", "changed", "fixed", "removed")
