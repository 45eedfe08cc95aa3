"""Settings: what is refused, with which advice, and how the command is filled in."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from segue.cli.run import run
from segue.errors import UsageError
from segue.supervisor.settings import Bind, Settings, parse_toml, read_file


def made(*binds: str, command: tuple[str, ...] = ("server",), **more: Any) -> Settings:
    parsed = tuple(Bind.parse(text, n) for n, text in enumerate(binds or ("127.0.0.1:80",)))
    return Settings(parsed, command, **more)


def test_every_setting_has_a_flag() -> None:
    """What the file and the environment can set, the command line can too."""
    assert {one.name for one in fields(Settings)} <= {one.name for one in run.params}


def test_tokens_are_filled_in_by_bind() -> None:
    """The nth token is the nth bind's; other braces are left alone."""
    settings = made(
        "127.0.0.1:80", "[::1]:81",
        command=("s", "--fd", "{fd}", "fd://{fd}", "{host}:{port}", "{port}", "{json: 1}", "{}"),
    )  # fmt: skip
    assert settings.arguments([3, 4], 1, 1) == [
        "s", "--fd", "3", "fd://4", "127.0.0.1:80", "81", "{json: 1}", "{}",
    ]  # fmt: skip


def test_with_one_bind_host_and_port_always_mean_it() -> None:
    """A command may name its port twice."""
    assert made(command=("s", "{port}", "{port}")).arguments([3], 1, 1) == ["s", "80", "80"]


def test_numbers_are_those_of_the_worker_and_its_generation() -> None:
    """As often as they are named, and beside whatever else; other words stay."""
    command = ("s", "{worker}", "/run/w{generation}.{worker}.pid", "{workers}", "{Worker}", "{0}")
    assert made(command=command).arguments([3], 7, 12) == [
        "s", "12", "/run/w7.12.pid", "{workers}", "{Worker}", "{0}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ({"command": ()}, "after --"),
        ({"command": ("s", "{fd}", "{fd}")}, "more {fd} than there are --bind options"),
        ({"command": ("s", "{fd}"), "bind_by": "worker"}, "it gets no descriptor"),
        ({"workers": 0}, r"between 1 and 512 \(got 0\)"),
        ({"ready_timeout": 0.0}, "--ready-timeout"),
        ({"drain_timeout": float("nan")}, "--drain-timeout"),
        ({"idle_grace": -1.0}, "--idle-grace"),
        ({"stall_kill": -1.0}, "--stall-kill"),
        ({"balance": "queue", "engine": "drain"}, "--balance queue needs the counters"),
        ({"max_lifetime": 0.5}, r"at least 1 and less than a year in seconds, or 0 \(got 0.5\)"),
        ({"max_lifetime": -1.0}, "--max-lifetime"),
        ({"max_lifetime": float("nan")}, "--max-lifetime"),
        ({"max_lifetime": float("inf")}, "--max-lifetime"),
        ({"max_rss": "300"}, r"--max-rss must be a size such as 300M or 1G, or 0 \(got '300'\)"),
        ({"max_rss": "-1M"}, "--max-rss must be a size"),
        ({"max_rss": "1K"}, "--max-rss must be between 1M and 1024T"),
        ({"max_rss": "9" * 400 + "G"}, "--max-rss must be between 1M and 1024T"),
        ({"max_connections": -1}, "--max-connections must be between 1 and"),
        ({"max_connections": 1 << 31}, "--max-connections must be between 1 and"),
        ({"max_connections": 9, "engine": "drain"}, "--max-connections needs the counters"),
        ({"rescue": "on"}, "50ms or 1s, or off"),
        ({"rescue": "1ms"}, "between 10ms and 60s"),
        ({"ready_http": "health"}, "a path"),
        ({"name": "../x"}, "letters"),
        ({"env": ("X",)}, "NAME=VALUE"),
        ({"keep_capability": ("net_bind",)}, "'net_bind' is not a capability"),
        ({"allow_new_privileges": True}, "needs --user or --group"),
        ({"restart_step": -1}, r"--restart-step must be between 1 and 512, or 0 .* \(got -1\)"),
        ({"restart_step": 1, "keep": 5.0}, "leave one of them out"),
        ({"stop_signal": "NOPE"}, "must be a signal"),
        ({"stop_signal": "99"}, "must be a signal"),
        ({"carry": "off", "carry_crash": True}, "--carry-crash needs connections that can be"),
        ({"carry": "off", "keep_idle": 5.0}, "give --carry app, http or auto with it"),
        ({"keep_idle": -1.0}, "--keep-idle must be at least 0"),
    ],
)
def test_nonsense_is_refused(more: dict[str, Any], advice: str) -> None:
    """One sentence that says what to write."""
    with pytest.raises(UsageError, match=advice.replace("{", r"\{")):
        made(**more)


def test_the_same_address_twice_is_refused() -> None:
    """Two groups cannot have one address."""
    with pytest.raises(UsageError, match="given twice"):
        made("127.0.0.1:80", "127.0.0.1:80")


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "term", "15"])
def test_a_signal_may_be_written_as_people_do(text: str) -> None:
    """With or without SIG, in either case, or as a number."""
    assert made(stop_signal=text).signal_number() == 15


def test_settings_survive_being_written_down() -> None:
    """The record of a supervisor holds them as JSON."""
    settings = made(
        "web=127.0.0.1:80", "[::1]:81", workers=3, env=("A=b=c",), keep_capability=("kill",)
    )
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_file_has_the_names_of_the_flags(tmp_path: Path) -> None:
    """Lists, numbers and words come as the fields of Settings."""
    file = tmp_path / "segue.toml"
    file.write_text('bind = ["a=:80"]\ncommand = ["x"]\nready-timeout = 5\nbind-by = "worker"\n')
    assert parse_toml(str(file), read_file(str(file))) == {
        "binds": ("a=:80",), "command": ("x",), "ready_timeout": 5, "bind_by": "worker",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("worker = 2", "unknown key 'worker'; did you mean 'workers'"),
        ("zzz = 2", "unknown key 'zzz'"),
        ('workers = "2"', "workers must be a whole number"),
        ("workers = true", "workers must be a whole number"),
        ("bind = 80", "a list of strings"),
        ('engine = "best"', "engine must be one of auto, migrate, hash, drain"),
        ("=", "is not TOML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, advice: str) -> None:
    """With the file, the key, and the nearest known one."""
    file = tmp_path / "segue.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=advice):
        parse_toml(str(file), read_file(str(file)))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A file that was named and is not there is no empty file."""
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_file(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(("text", "seconds"), [("50ms", 0.05), ("1.5s", 1.5), ("off", 0.0)])
def test_how_long_a_worker_may_stall(text: str, seconds: float) -> None:
    """A time with its unit, or never."""
    assert made(rescue=text).rescue_after == seconds


@pytest.mark.parametrize(
    ("more", "has", "cap", "wanted"),
    [
        ({}, 100, 4096, 2048),  # the server has listened again with 100
        ({}, 2048, 4096, None),
        ({}, 3000, 4096, None),  # the server has asked for more than the default
        ({}, 128, 128, None),  # more is not to be had
        ({}, 128, 4096, 2048),  # it is now
        ({"backlog": 4096}, 100, 4096, 4096),
        ({"backlog": 50}, 2048, 4096, 50),
        ({"backlog": 8192}, 4096, 4096, None),
        ({"bind_by": "worker"}, 100, 4096, None),  # its own, and nothing was asked for
        ({"bind_by": "worker", "backlog": 4096}, 100, 4096, 4096),
    ],
)
def test_which_backlog_a_listener_gets(
    more: dict[str, Any], has: int, cap: int, wanted: int | None
) -> None:
    """What was asked for, as far as the system gives it; the default only raises our own."""
    assert made(**more).backlog_for(has, cap) == wanted


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        ("0", 0),
        ("300M", 300 << 20),
        ("1.5G", 3 << 29),
        ("2048K", 2 << 20),
        ("1T", 1 << 40),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    """Units are powers of 1024; 0 and nothing are no limit."""
    assert made(max_rss=text).limits.max_rss == size


def test_what_counts_connections_asks_for_the_engine_that_does() -> None:
    """With auto that is decided before anything starts, and not when a count is missing."""
    assert made().wanted_engine == "auto"
    assert made(max_lifetime=60.0, max_rss="1G").wanted_engine == "auto"
    assert made(max_connections=100).wanted_engine == "migrate"
