"""Which descriptors a service manager has handed over, as the environment tells it."""

from __future__ import annotations

import pytest

from segue.errors import UsageError
from segue.supervisor.run.activation import names


def test_they_are_numbered_from_three() -> None:
    """With their names as far as there are any."""
    told = {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:"}
    assert names(told, 7) == {3: "web", 4: "unknown", 5: "unknown"}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "8", "LISTEN_FDS": "1"},  # of the process that started us
        {"LISTEN_PID": "7"},
        {"LISTEN_PID": "x", "LISTEN_FDS": "x"},
    ],
)
def test_what_is_told_to_another_process_is_not_ours(told: dict[str, str]) -> None:
    """A wrapper may have left its variables."""
    assert names(told, 7) == {}


@pytest.mark.parametrize("count", ["0", "-1", "x", "", "1025", "\u00b2", "9" * 5000])
def test_a_number_that_makes_no_sense_is_refused(count: str) -> None:
    """It is named, in part."""
    with pytest.raises(UsageError, match="LISTEN_FDS must be between 1 and 1024"):
        names({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)
