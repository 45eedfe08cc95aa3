"""What a process says of itself in its environment."""

from __future__ import annotations

import pytest

from segue.supervisor.control.claims import Claim, parse

WHOLE = {
    "SEGUE_WORKER": "/run/segue/shop.web.w12",
    "SEGUE_NAME": "shop.web",
    "SEGUE_GENERATION": "3",
}


def told(**changed: str) -> Claim | None:
    environment = {"PATH": "/bin", **WHOLE, **changed}
    return parse(7, 99, [f"{name}={value}".encode() for name, value in environment.items()])


def test_a_worker_says_whose_it_is() -> None:
    """A name may have dots, and ends where the number begins."""
    assert told() == Claim(7, 99, "shop.web", "/run/segue", generation=3, worker=12)


@pytest.mark.parametrize(
    "changed",
    [
        {"SEGUE_WORKER": ""},
        {"SEGUE_WORKER": "shop.web.w12"},
        {"SEGUE_WORKER": "/run/segue/shop.w12"},
        {"SEGUE_WORKER": "/run/segue/shop.web.w"},
        {"SEGUE_WORKER": "/run/segue/shop.web.w1234567890"},
        {"SEGUE_NAME": ""},
        {"SEGUE_NAME": "../x", "SEGUE_WORKER": "/run/segue/../x.w1"},
        {"SEGUE_GENERATION": "-1"},
        {"SEGUE_GENERATION": "²"},
        {"SEGUE_GENERATION": ""},
    ],
)
def test_what_does_not_fit_together_is_no_claim(changed: dict[str, str]) -> None:
    """Each of the three must be there, and be such as a supervisor gives it."""
    assert told(**changed) is None
