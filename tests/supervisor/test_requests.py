"""Requests over the control socket are values that cannot be nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from segue.errors import UsageError
from segue.supervisor.control import requests
from segue.supervisor.control.requests import (
    VERBS,
    Detach,
    Map,
    Promote,
    Reexec,
    Request,
    Rescue,
    Restart,
    Rollback,
    Scale,
    Shift,
    ShowStatus,
    Stop,
    Trace,
    Weights,
    parse,
)

SENSIBLE = [
    Restart(),
    Restart(canary=10.0, keep=3.0, now=True, cut=True, wait=False, until="serving", replace=True),
    Rollback(),
    Promote(),
    Shift(50.0),
    Weights({3: 0.5, 4: 1.0}),
    Scale(4),
    Stop(fast=True),
    ShowStatus(),
    ShowStatus(brief=True),
    Reexec(),
    Trace("http"),
    Map("tenants", {7: 1, 0: (1 << 64) - 1}, (3, 4)),
    Rescue("50ms", "127.0.0.1:8080"),
    Detach(),
]


@pytest.mark.parametrize("request_", SENSIBLE, ids=lambda one: f"{one}")
def test_what_is_sent_is_what_is_read(request_: Request) -> None:
    """A request survives JSON, where the keys of its mappings are strings."""
    plain = request_.to_json()
    for key, value in plain.items():
        if isinstance(value, dict):
            plain[key] = {str(one): it for one, it in value.items()}
    assert parse(plain) == request_


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ({"do": "restart", "canari": 5}, "restart has no 'canari'; did you mean 'canary'?"),
        ({"do": "restart", "now": "no"}, "now must be true or false (got 'no')"),
        ({"do": "restart", "now": 1}, "now must be true or false (got 1)"),
        ({"do": "restart", "canary": None}, "canary must be a number (got None)"),
        ({"do": "restart", "canary": True}, "canary must be a number (got True)"),
        ({"do": "restart", "canary": 0}, "a canary must get more than 0 and at most 100 percent"),
        ({"do": "restart", "canary": float("nan")}, "canary must be a number (got nan)"),
        ({"do": "restart", "keep": 10**400}, "keep must be a number (got 1000"),
        ({"do": "restart", "keep": -1}, "keep must be at least 0 and less than a day"),
        ({"do": "restart", "step": 513}, "step must be between 0 and 512 (got 513)"),
        ({"do": "restart", "step": 1.5}, "step must be whole numbers from 0 on (got 1.5)"),
        ({"do": "restart", "cut": None}, "cut must be true or false (got None)"),
        ({"do": "rollback", "now": True}, "rollback has no 'now'; it has none"),
        ({"do": "shift"}, "shift needs 'percent'"),
        ({"do": "shift", "percent": 101}, "percent must be between 0 and 100 (got 101)"),
        ({"do": "weights", "weights": {}}, "weights must be given by worker"),
        ({"do": "weights", "weights": {"\u00b2": 1}}, "weights must be whole numbers"),
        ({"do": "weights", "weights": {"9" * 5000: 1}}, "weights must be whole numbers"),
        ({"do": "weights", "weights": {"1": 1e308}}, "must be between 0 and 1e+06 (got 1e+308)"),
        ({"do": "weights", "weights": {"1": -1}}, "must be between 0 and 1e+06 (got -1)"),
        ({"do": "weights", "weights": [1]}, "weights must be given by number"),
        ({"do": "scale", "workers": 0}, "workers must be between 1 and 512 (got 0)"),
        (
            {"do": "scale", "workers": 10**5000},
            "workers must be whole numbers from 0 on (got a value",
        ),
        ({"do": "scale", "workers": 1.5}, "workers must be whole numbers from 0 on (got 1.5)"),
        (
            {"do": "map", "map": "m", "set": {"a": 1}},
            "set must be whole numbers from 0 on",
        ),
        ({"do": "map", "map": "m", "delete": 3}, "delete must be a list (got 3)"),
        ({"do": "trace", "bind": 7}, "bind must be a string (got 7)"),
        ({"do": "fly"}, "there is no request 'fly' (there are restart, "),
        ({"do": ["restart"]}, "there is no request ['restart']"),
        ({}, "there is no request None"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(plain: dict[str, Any], sentence: str) -> None:
    """A misspelt key, a value of another kind or out of range is never taken for its absence."""
    with pytest.raises(UsageError) as refused:
        parse(plain)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "value",
    ["\u0661", "9" * 5000, "", "-1", "0x1", "1 ", 1.0, float("inf"), -1, 10**20, True, None],
)
def test_a_whole_number_is_written_in_ascii_digits(value: object) -> None:
    """Nothing that int() would make something of is one."""
    with pytest.raises(UsageError, match="whole numbers from 0 on"):
        parse({"do": "map", "map": "m", "delete": [value]})


def test_what_is_refused_is_told_in_short() -> None:
    """An error is a sentence, whatever was sent."""
    with pytest.raises(UsageError) as refused:
        parse({"do": "trace", "bind": ["x" * 10_000]})
    assert len(str(refused.value)) < 200


def test_every_request_has_a_verb_of_its_own() -> None:
    """No two classes answer to one verb, and none is left out of this file's table."""
    kinds = [one for one in vars(requests).values() if isinstance(one, type)]
    named = [one for one in kinds if issubclass(one, Request) and one is not Request]
    assert {one.verb: one for one in named} == VERBS
    assert len(named) == len(VERBS)
    assert {type(one) for one in SENSIBLE} == set(named)
