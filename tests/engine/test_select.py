"""Which engine is chosen here, for whom, and why."""

from __future__ import annotations

from typing import Any

import pytest
from tests.linux.unprivileged import as_nobody

from segue.engine import select
from segue.engine.select import EngineChoice, Experiment, choose
from segue.errors import NotSupported
from segue.linux import features, sysctl
from segue.linux.features import Answer, Finding

MENDED, FREES_TWICE = "6.18.44", "6.12.1"
WORKS = Experiment(migrated=True, woken=True, where="here")
DEAF = Experiment(migrated=True, where="here")
LOST = Experiment(woken=True, where="here")
NOT_ALLOWED = Experiment(error="it needs CAP_BPF")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> dict[str, Experiment]:
    """What the experiments show, for a test to change."""
    shown = {"migrate": WORKS, "hash": WORKS}
    monkeypatch.setattr(select, "try_migrate", lambda: shown["migrate"])
    monkeypatch.setattr(select, "try_hash", lambda: shown["hash"])
    return shown


@pytest.mark.parametrize(
    ("migrate", "by_hash", "engine", "nudge", "reason"),
    [
        (WORKS, WORKS, "migrate", False, "a queued connection migrated"),
        (DEAF, WORKS, "migrate", True, "CVE-2026-46015"),
        (NOT_ALLOWED, WORKS, "hash", False, "not migrate: it needs CAP_BPF"),
        (LOST, DEAF, "hash", True, "not migrate: a queued connection was lost here"),
        (NOT_ALLOWED, LOST, "drain", False, "not hash: a queued connection was lost here"),
        (LOST, LOST, "drain", False, "not migrate: a queued connection was lost here"),
    ],
)
def test_the_best_that_works_is_chosen(
    trials: dict[str, Experiment],
    migrate: Experiment,
    by_hash: Experiment,
    engine: str,
    nudge: bool,
    reason: str,
) -> None:
    """Migrate before hash before drain, each with its reason; a nudge where nobody is woken."""
    trials |= {"migrate": migrate, "hash": by_hash}
    choice = choose(release=MENDED)
    assert (choice.engine, choice.nudge) == (engine, nudge)
    assert any(reason in one for one in choice.reasons), choice.reasons


@pytest.mark.parametrize("wanted", ["migrate", "hash"])
def test_a_wanted_engine_that_cannot_work(trials: dict[str, Experiment], wanted: str) -> None:
    """Refused with the reason, also where another one would work."""
    trials[wanted] = NOT_ALLOWED
    with pytest.raises(NotSupported, match=rf"the engine {wanted} needs .* it needs CAP_BPF"):
        choose(wanted, MENDED)


@pytest.mark.usefixtures("trials")
def test_a_kernel_that_must_not_migrate() -> None:
    """Its version decides, whatever an experiment would show; said once."""
    choice = choose(release=FREES_TWICE)
    assert (choice.engine, choice.nudge, len(choice.reasons)) == ("drain", False, 1)
    assert "CVE-2024-53206" in choice.reasons[0]
    with pytest.raises(NotSupported, match="CVE-2024-53206"):
        choose("migrate", FREES_TWICE)
    assert choose("drain", FREES_TWICE) == EngineChoice("drain", reasons=("asked for",))


@pytest.mark.usefixtures("trials")
def test_a_kernel_that_nothing_is_known_of() -> None:
    """A distribution's frozen version forbids nothing; the doubt is among the reasons."""
    choice = choose(release="6.12.0-55.el10.x86_64")
    assert choice.engine == "migrate"
    assert "(CVE-2024-53206): its distribution counts" in choice.reasons[-1]


@pytest.mark.parametrize("wanted", ["auto", "drain"])
def test_where_nothing_works(
    trials: dict[str, Experiment], monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """Without classic BPF there is no engine at all, and no wish brings one."""
    trials |= {"migrate": NOT_ALLOWED, "hash": LOST}
    none = Finding(Answer.NO, "ENOPROTOOPT")
    monkeypatch.setattr(features, "ask", lambda _: none)
    with pytest.raises(NotSupported, match=r"the engine drain needs Linux 4\.6 .* ENOPROTOOPT"):
        choose(wanted, MENDED)


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_root_gets_migrate() -> None:
    """By an experiment in a namespace of its own."""
    choice = choose(release=MENDED)
    assert choice.engine == "migrate"
    assert choice.reasons[0] == (
        "a queued connection migrated to another listener in a namespace of its own"
    )


def chosen_by_nobody() -> list[Any]:
    choice = choose(release=MENDED)
    return [choice.engine, list(choice.reasons)]


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_without_privileges_it_is_drain() -> None:
    """With a reason for each of the others."""
    engine, reasons = as_nobody(chosen_by_nobody)
    assert engine == "drain"
    assert reasons[0].startswith("not migrate: ")
    assert "EPERM" in reasons[0]
    assert reasons[1] == "not hash: net.ipv4.tcp_migrate_req is 0"


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.usefixtures("netns")
def test_without_privileges_but_with_the_switch_it_is_hash() -> None:
    """The present namespace's switch is what counts."""
    sysctl.write("net.ipv4.tcp_migrate_req", "1")
    engine, reasons = as_nobody(chosen_by_nobody)
    assert engine == "hash"
    assert reasons[0] == "a queued connection migrated to another listener on a private port"


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_drain_can_be_tried_too() -> None:
    """Classic BPF steers, for root and for nobody."""
    assert select.try_drain() == Experiment(migrated=True, woken=True, where="on a private port")
    assert as_nobody(lambda: select.try_drain().migrated) is True
