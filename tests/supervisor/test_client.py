"""The lines that come back over a control socket, whoever has written them."""

from __future__ import annotations

import pytest

from segue.errors import SegueError
from segue.supervisor.control.client import parsed


@pytest.mark.parametrize(
    "line",
    [b"", b"x\n", b"[]\n", b'{"exit": "0"}\n', b"[" * 99_999, b'{"n": ' + b"9" * 5000 + b"}\n",
     b'{"exit": 0, "flip_ms": NaN}\n', b'{"when": Infinity}\n', b'{"when": 1e999}\n'],
    ids=lambda line: line[:16].decode(),
)  # fmt: skip
def test_what_no_supervisor_says_is_refused(line: bytes) -> None:
    """With who has said it."""
    with pytest.raises(SegueError, match=r"^the process that answers at /x/t\.sock is not a super"):
        parsed(line, "/x/t.sock")


def test_what_an_answer_lacks_is_refused_where_it_is_looked_for() -> None:
    """With its name."""
    found = parsed(b'{"when": 1.5}\n', "/x/t.sock")
    assert found["when"] == 1.5
    with pytest.raises(SegueError, match="'fate' is missing"):
        _ = found["fate"]
