"""Where metrics are to go, as it is written, and what is said where they cannot go."""

from __future__ import annotations

import pytest

from segue.cli.run import by_name
from segue.errors import NotSupported
from segue.supervisor.control.export_target import ExportTarget
from segue.supervisor.run import exporting
from segue.supervisor.settings import Bind, Settings


@pytest.mark.parametrize(
    ("text", "below"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("[::1]:9464", "[::1]:9464"),
        ("unix:m.sock", "unix:/srv/web/m.sock"),
        ("textfile:/var/m.prom", "textfile:/var/m.prom"),
    ],
)
def test_a_path_is_relative_to_where_it_is_written(text: str, below: str) -> None:
    """The directory of the start, or of segue.toml; an address is an address."""
    assert str(ExportTarget.parse(text)) == text
    assert by_name({"metrics": text}, "/srv/web") == {"metrics": below}


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started, and only where metrics are asked for."""
    monkeypatch.setattr(exporting, "find_spec", lambda _: None)
    settings = Settings((Bind.parse("127.0.0.1:1", 0),), ("true",))
    exporting.refuse_impossible(settings)
    settings = Settings(settings.binds, settings.command, metrics="127.0.0.1:9464")
    with pytest.raises(NotSupported, match=r"pip install 'segue\[metrics\]'"):
        exporting.refuse_impossible(settings)
