"""What stands between backticks: settings of the namespace, which are set; nothing is executed.

The suites call scripts of their own, which the lab knows by their names: one for the settings that
all scripts assume, one that sets more, and one that sets them back.
"""

from __future__ import annotations

import re
import shlex

from segue.errors import UsageError

Setting = tuple[str, str]

# What the suites' scripts assume where they do not say otherwise.
DEFAULTS: tuple[Setting, ...] = (
    ("net.ipv4.tcp_rmem", "4096 540000 15728640"),
    ("net.ipv4.tcp_wmem", "4096 262144 4194304"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_syn_retries", "5"),
    ("net.ipv4.tcp_synack_retries", "5"),
    ("net.ipv4.tcp_frto", "2"),
    ("net.ipv4.tcp_sack", "1"),
    ("net.ipv4.tcp_dsack", "1"),
    ("net.ipv4.tcp_reordering", "3"),
    ("net.ipv4.tcp_congestion_control", "reno"),  # cubic is not always allowed in a namespace
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
    ("net.ipv4.tcp_early_retrans", "4"),
    ("net.ipv4.tcp_recovery", "1"),
    ("net.ipv4.tcp_tso_win_divisor", "3"),
    ("net.ipv4.tcp_ecn", "0"),
    ("net.ipv4.tcp_pacing_ss_ratio", "200"),
    ("net.ipv4.tcp_pacing_ca_ratio", "120"),
    ("net.ipv4.tcp_notsent_lowat", "4294967295"),
    ("net.ipv4.tcp_fastopen", "459779"),
    ("net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"),
    ("net.ipv4.tcp_syncookies", "1"),
)
_NAME = re.compile(r"net\.(?:ipv4|ipv6|core)\.[a-zA-Z0-9_.]+", re.ASCII)
_VALUE = re.compile(r"[-0-9a-zA-Z_, \t]*", re.ASCII)
_QUIET = {">", "/dev/null", "2>/dev/null", "2>&1", "&>", "&>/dev/null", ">/dev/null", "||", "true"}
# A new namespace has no metrics to forget, and a new interface has a plain queue.
_NOTHING_TO_DO = (
    ("ip", "tcp_metrics", "flush"),
    ("tc", "qdisc", "add", "dev", "tun0", "root", "pfifo"),
)


def settings_in(command: str) -> list[Setting]:
    """The settings that a command makes, in order.

    Raises UsageError for what is not a setting: nothing is executed.
    """
    found: list[Setting] = []
    for line in re.split(r"[\n;]|&&", command.replace("\\\n", " ")):
        try:
            words = [one for one in shlex.split(line, comments=True) if one not in _QUIET]
        except ValueError:
            raise _refusal(line) from None
        if words:
            found += _line(words, line)
    return found


def _line(words: list[str], line: str) -> list[Setting]:
    name = words[0].rpartition("/")[2]
    if name == "defaults.sh":
        return list(DEFAULTS)
    if name.startswith("sysctl_restore_"):
        return []  # the namespace ends with the script
    if name == "sysctl":
        return [_setting(one, line) for one in words[1:] if one not in {"-q", "-w", "-qw", "-e"}]
    if name == "set_sysctls.py":
        return [
            _setting(one.removeprefix("/proc/sys/").replace("/", "."), line) for one in words[1:]
        ]
    if any(tuple(words[: len(known)]) == known for known in _NOTHING_TO_DO):
        return []
    raise _refusal(line)


def _setting(text: str, line: str) -> Setting:
    name, sign, value = text.partition("=")
    if not sign or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _refusal(line)
    if value[:2] in {"0x", "0X"}:
        try:
            value = str(int(value, 16))
        except ValueError:
            raise _refusal(line) from None
    return name, value


def _refusal(line: str) -> UsageError:
    shown = " ".join(line.split())
    return UsageError(
        f"the lab executes no commands, and {shown[:60]!r} is no setting below net:"
        " only sysctl NAME=VALUE is carried out, in the lab's own namespace"
    )
