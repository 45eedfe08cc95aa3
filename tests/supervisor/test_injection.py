"""``--inject`` where the kernel lets no program set options at bind(2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.cli.main import main
from segue.errors import NotSupported
from segue.linux import cgroup, features
from segue.supervisor.workers.injection import Injection

ADDRESS = "127.0.0.1:8080"


@pytest.fixture(autouse=True)
def linux_5_10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """It has cgroup2, and refuses the program; the directory is where a cgroup could be made."""
    no = features.Finding(features.Answer.NO, "unknown func bpf_setsockopt#49")
    monkeypatch.setattr(features, "_known", {"ebpf_bind": no})
    monkeypatch.setattr(cgroup, "mine", lambda: str(tmp_path))
    monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
    return tmp_path


def test_nothing_is_made_for_it(linux_5_10: Path) -> None:
    """No cgroup, which would have to be removed again."""
    with pytest.raises(NotSupported, match=r"--inject needs Linux 5\.15 or later"):
        Injection.open(f"{linux_5_10}/segue.t", [8080])
    assert list(linux_5_10.iterdir()) == []


def test_check_says_which_kernel_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """1, in one sentence: it is not the command line's fault."""
    flags = ("--bind", ADDRESS, "--bind-by", "worker", "--inject", "--check")
    assert main(["run", *flags, "--", "true"]) == 1
    said = capsys.readouterr().err.strip()
    assert "--inject needs Linux 5.15 or later" in said
    assert "\n" not in said
