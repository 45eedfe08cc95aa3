"""The pages of settings, exit codes, metrics and the control protocol."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from docs.generate.markdown import code, escaped, table

from segue.cli.main import EXIT_CODES
from segue.cli.run import run
from segue.metrics.table import METRICS
from segue.supervisor.control.requests import VERBS, Request
from segue.supervisor.settings import CHOICES, KEYS, Settings

_NO_DEFAULT = {"binds", "command"}


def _kind(name: str, hint: Any) -> str:
    if name in CHOICES:
        return ", ".join(code(one) for one in CHOICES[name])
    if getattr(hint, "__args__", ()):
        return "a list"
    return {int: "a number", float: "a number", bool: "true or false"}.get(hint, "a string")


def settings() -> str:
    """Every setting, with its key, its default and its meaning."""
    hints = get_type_hints(Settings)
    helps = {one.name: getattr(one, "help", "") or "" for one in run.params}
    helps["command"] = "The command of a worker, as a list of its words."
    defaults = {one.name: one.default for one in fields(Settings) if one.default is not MISSING}
    rows = []
    for key, name in KEYS.items():
        default = "" if name in _NO_DEFAULT else defaults.get(name, "")
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        text = escaped(helps[name].partition("  [default")[0])
        rows.append((code(key), _kind(name, hints[name]), code(shown), text))
    return (
        "# Settings\n\n"
        "A setting of `segue run` is an option (`--drain-timeout 30`), a key of `segue.toml`"
        " (`drain-timeout = 30`) or a variable of the environment (`SEGUE_DRAIN_TIMEOUT=30`). An"
        " option overrides the environment, and the environment overrides the file. The command"
        " itself has no variable. `segue run --check` reads them and says what is wrong.\n\n"
    ) + table(("key", "kind", "default", "meaning"), rows)


def exit_codes() -> str:
    """The exit codes of every command."""
    rows = [(code(number), text) for number, text in EXIT_CODES.items()]
    return (
        "# Exit codes\n\n"
        + table(("exit code", "meaning"), rows)
        + "\n`segue probe` has [some of its own](../PROBE.md#exit-codes).\n"
    )


def metrics() -> str:
    """The table that the exporter uses."""
    rows = [
        (
            code(one.exposed),
            one.kind,
            ", ".join(code(label) for label in one.labels),
            escaped(one.says),
            escaped(one.worry),
        )
        for one in METRICS
    ]
    return (
        "# Metrics\n\n[How to export them](../METRICS.md), with alert rules and a dashboard.\n\n"
        + table(("metric", "kind", "labels", "meaning", "when to worry"), rows)
    )


def _request(kind: type[Request]) -> str:
    hints = get_type_hints(kind)
    rows = []
    for one in fields(kind):
        hint = hints[one.name]
        shown = (
            hint.__name__
            if isinstance(hint, type) and not getattr(hint, "__args__", ())
            else str(hint)
        )
        default = "must be given" if one.default is MISSING else code(repr(one.default))
        rows.append((code(one.name), code(shown), default))
    text = " ".join((kind.__doc__ or "").split())
    keys = table(("key", "type", "default"), rows) if rows else "It has no other keys.\n"
    return f"\n## {kind.verb}\n\n{text}\n\n{keys}"


def protocol() -> str:
    """The requests of the control socket."""
    return (
        "# Control protocol\n\n"
        "`segue restart` and the like talk to the supervisor by a Unix socket: `NAME.sock` in the"
        " directory of the instance ([which one](../RUN.md#which-instance-a-command-asks)). One"
        " connection has one request, which is one line of JSON:\n\n"
        '```json\n{"do": "restart", "canary": 10}\n```\n\n'
        "`do` is the verb. The other keys are those of the verb; any other key is refused. Answers"
        " are lines of JSON too. Lines with the key `say` tell what goes on. The last line has"
        " the key `exit`, the exit code of the command, and `error`, a sentence, if it is not 0."
        " The supervisor reads the user of the client from the socket: root and its own user may"
        " ask.\n"
    ) + "".join(_request(kind) for kind in VERBS.values())
