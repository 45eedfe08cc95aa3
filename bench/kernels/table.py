"""What was found on kernels, as rows for a person and for docs/KERNELS.md.  Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from bench.kernels.wishes import NAMED, faults

Found = dict[str, Any]  # of one kernel, as the JSON has it: "steps" are those of ``inside``

STEPS = (
    *("kernel", "choice", "policies", "carry", "restarts", "kills", "stall", "queue"),
    *("tests/linux", "tests/engine", "no-tcp-diag"),
)
# Before it no program is asked about migration.
_FIRST_TO_MIGRATE = (5, 14)
# Before it no program can make an established connection (bpf_sk_assign_tcp_reqsk).
_FIRST_TO_CARRY = (6, 9)


def _numbers(kernel: str) -> tuple[int, ...]:
    return tuple(int(part) for part in kernel.split("."))


def _choice(step: Found) -> str:
    return f"{step['engine']}, with a nudge" if step["nudge"] else str(step["engine"])


def _agree(step: Found) -> str:
    return {True: "agree", False: "DIFFER", None: "-"}[step["agree"]]


def _policies(step: Found) -> str:
    return f"{step['policies'] - len(step['refused'])} of {step['policies']}"


def _carry(step: Found) -> str:
    if step["carried"]:
        return "yes"
    refused = [wish for wish, answer in step.get("wishes", {}).items() if answer["exit"]]
    return f"no; {' and '.join(refused)} refused" if refused else "no"


def _load(step: Found) -> str:
    return f"{step['lost']} of {step['attempts']}"


def _kills(step: Found) -> str:
    return f"{step['lost']} of {step['attempts']}, {step['accepted']} accepted"


def _clients(step: Found) -> str:
    lost = f", {step['lost']} lost" if step["lost"] else ""
    longest = f"{step['longest_ms'] / 1e3:.2f} s"
    return f"{step['answered']} of {step['asked']} in {longest}{lost}"


def _told(step: Found) -> str:
    return "said" if not step["untold"] else "NOT SAID"


def _tests(step: Found) -> str:
    late = "" if step["in_time"] else ", out of time"
    return f"{step['passed']} / {step['failed']} / {step['skipped']}{late}"


# Heading, step, and what its cell says.
_COLUMNS: tuple[tuple[str, str, Callable[[Found], str]], ...] = (
    ("engine", "choice", _choice),
    ("test and table", "choice", _agree),
    ("policies", "policies", _policies),
    ("carry", "carry", _carry),
    ("restarts: lost", "restarts", _load),
    ("kills: lost", "kills", _kills),
    ("stall: answered", "stall", _clients),
    ("queue: answered", "queue", _clients),
    ("tests/linux", "tests/linux", _tests),
    ("tests/engine", "tests/engine", _tests),
    ("no tcp_diag", "no-tcp-diag", _told),
)


def rows(found: Sequence[Found]) -> list[list[str]]:
    """Headings, then the cells of each kernel, oldest first."""
    asked = {name for one in found for name in one["steps"]}
    columns = [column for column in _COLUMNS if column[1] in asked]
    body = [
        [one["kernel"], *(_cell(one["steps"].get(step), cell) for _, step, cell in columns)]
        for one in sorted(found, key=lambda one: _numbers(one["kernel"]))
    ]
    return [["Linux", *(heading for heading, _, _ in columns)], *body]


def _cell(step: Found | None, cell: Callable[[Found], str]) -> str:
    if step is None:
        return "-"
    return "failed" if "error" in step else cell(step)


def _late(step: Found) -> str:
    late = step.get("late_ms", 0) / 1e3
    return f" (the machine was so busy that the probe was {late:.1f} s late)" if late > 1 else ""


def _wrong_carry(step: Found, *, can: bool) -> list[str]:
    found = faults(step.get("wishes", {}), can=can)
    if can and not step["carried"]:
        found.append(f"a connection was not carried: {step['why']}")
    elif can and not step["woken"]:
        found.append("a connection that was carried did not wake the listener it came to")
    elif not can and NAMED not in step["why"]:
        found.append(f"that nothing is carried before {NAMED} is not said: {step['why']}")
    return found


def merged(old: Found | None, new: Found) -> Found:
    """The new findings, beside older ones of other steps if the kernel is the same.

    The project need not be: each step has its commit.
    """
    if old is None or old["version"] != new["version"]:
        return new
    both = {name: list(dict.fromkeys(old[name] + new[name])) for name in ("asked", "trouble")}
    return {**new, **both, "steps": {**old["steps"], **new["steps"]}}


def progress(line: str) -> str:
    """A line of ``inside`` in a few words, while the others are awaited."""
    try:
        step = json.loads(line)
        cells = [] if "error" in step else _cells(step)
    except (ValueError, KeyError, TypeError):
        return line
    said = ", ".join(cells) or step.get("release", "")
    return f"{step['step']}: {step.get('error') or said} ({step['took_s']:.0f} s)"


def _cells(step: Found) -> list[str]:
    return [cell(step) for _, name, cell in _COLUMNS if name == step["step"]]


def markdown(found: Sequence[Found]) -> str:
    """The table for docs/KERNELS.md, with when and of what each was taken, and what was wrong."""
    heading, *body = rows(found)
    taken = {one["kernel"]: f"{one['taken'][:10]} ({', '.join(_commits(one))})" for one in found}
    lines = [[*heading, "booted"], ["---"] * (len(heading) + 1)]
    lines += [[*cells, taken[cells[0]]] for cells in body]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    text += _listed(
        "Where accepted connections are not carried, `segue doctor` says why:",
        [(one["kernel"], why) for one in found if (why := _uncarried(one))],
    )
    bad = [(one["kernel"], said) for one in found for said in wrong(one)]
    return text + _listed("Not as it should be:", bad)


def _commits(found: Found) -> list[str]:
    """Of the steps, the latest last."""
    commits = [step["commit"] for step in found["steps"].values() if "commit" in step]
    return [*(one for one in dict.fromkeys(commits) if one != found["commit"]), found["commit"]]


def _uncarried(found: Found) -> str:
    why: str = found["steps"].get("carry", {}).get("why", "")
    return why


def _listed(heading: str, lines: Sequence[tuple[str, str]]) -> str:
    listed = "".join(f"- {kernel}: `{said}`\n" for kernel, said in lines)
    return f"\n{heading}\n\n{listed}" if lines else ""


def wrong(found: Found) -> list[str]:
    """What is not as it should be on this kernel, a sentence each; empty if nothing is."""
    steps, said = found["steps"], list[str]()
    for name, step in steps.items():
        if "error" in step:
            said.append(f"{name}: {' '.join(step['error'].split())}")
    steps = {name: step for name, step in steps.items() if "error" not in step}
    missing = [name for name in found["asked"] if name not in found["steps"]]
    if missing:
        said.append(f"it ended before {missing[0]}")
    if steps.get("choice", {}).get("agree") is False:
        said.append("the live test and the table of versions differ")
    migrates = _numbers(found["kernel"])[:2] >= _FIRST_TO_MIGRATE
    if migrates:
        for name, why in steps.get("policies", {}).get("refused", {}).items():
            said.append(f"the policy {name} is refused: {why}")
    if "carry" in steps:
        said += _wrong_carry(steps["carry"], can=_numbers(found["kernel"])[:2] >= _FIRST_TO_CARRY)
    said += steps.get("no-tcp-diag", {}).get("untold", ())
    if steps.get("restarts", {}).get("lost"):
        one = steps["restarts"]
        said.append(f"restarts lost {one['lost']}: {one['kinds']}{_late(one)}")
    killed = steps.get("kills")
    if killed and killed["lost"] > killed["accepted"]:
        said.append(
            f"kills lost {killed['lost']}, and the workers had accepted {killed['accepted']}:"
            f" {killed['kinds']}{_late(killed)}"
        )
    for name in ("stall", "queue"):
        if steps.get(name, {}).get("lost"):
            said.append(f"{name}: {steps[name]['lost']} clients had no answer")
    for name in ("restarts", "kills"):
        said += [
            f"{name}: the supervisor said: {line}" for line in steps.get(name, {}).get("said", ())
        ]
    stalled = steps.get("stall")
    if migrates and stalled and stalled["answered"] < stalled["asked"]:
        said.append("stall: not everybody was answered while the worker was stopped")
    for name, step in steps.items():
        if name.startswith("tests/"):
            said += step["failures"]
            if not step["in_time"]:
                said.append(f"{name} did not end in time")
    return said + [f"the kernel said: {line}" for line in found["trouble"]]
