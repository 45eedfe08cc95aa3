"""What an instance is called becomes a part of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.cli.main import main
from segue.errors import UsageError
from segue.supervisor.control.client import find

VERBS = {
    "status": (), "restart": (), "stop": (), "scale": ("2",), "weights": ("1=1",), "trace": (),
    "policy map": (), "reexec": (),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_is_no_path(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that takes a name refuses one that leads elsewhere, as segue run does."""
    code = main([*verb.split(), "--name", "../../tmp/x", *VERBS[verb]])
    assert code == 2
    assert "use letters, digits" in capsys.readouterr().err


def test_a_name_that_may_be_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that an instance has its name from by default is one."""
    monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path))
    assert find("127.0.0.1_8080@x").control == f"{tmp_path}/127.0.0.1_8080@x.sock"
    with pytest.raises(UsageError):
        find("a/b")
