"""A script is told to Linux and to the model, and what became of it on both is written down."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from segue.errors import ScriptError, UsageError
from segue.lab.packetdrill import asserts, calls, commands
from segue.lab.packetdrill.judge import TOLERANCE_S, Judge, Result, Rules, Verdict
from segue.lab.packetdrill.linux_side import linux
from segue.lab.packetdrill.model_side import ModelSide
from segue.lab.packetdrill.script import Call, Code, Command, Script
from segue.lab.packetdrill.speaker import Speaker
from segue.model import cookies

# Server and peer, as packetdrill has them.
_ADDRESSES = {4: ("192.168.0.1", "192.0.2.1"), 6: ("fd3d:a0b:17d6::1", "2001:db8::1")}
_MTU = {4: 1500, 6: 1520}  # both have room for 1460 bytes of data
_KNOWN = {
    "ip_version", "local_ip", "remote_ip", "mtu", "tolerance_usecs", "tcp_ts_tick_usecs",
    "strict_segments", "tcp_ts_ecr_scaled", "define",
}  # fmt: skip
TRIES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What a script is told with."""

    server: str
    peer: str
    mtu: int
    rules: Rules


def defined(version: int) -> dict[str, str]:
    """Words that the suites leave to their runner: the cookie of these addresses and of the key
    that they set, and an ICMP message's code.
    """
    server, peer = _ADDRESSES[version]
    key = cookies.fast_open_keys(dict(commands.DEFAULTS)["net.ipv4.tcp_fastopen_key"], b"", b"")[0]
    addresses = ipaddress.ip_address(server).packed + ipaddress.ip_address(peer).packed
    code = "host_unreachable" if version == 4 else "port_unreachable"
    return {"TFO_COOKIE": cookies.fast_open(key, addresses).hex(), "CODE": code}


def terms(script: Script, version: int = 4) -> Terms:
    """By the settings at its head.  Raises ScriptError for those that the lab does not have."""
    for name, place in script.places.items():
        if name not in _KNOWN:
            why = f"the lab has no --{name}: expected one of {', '.join(sorted(_KNOWN))}"
            raise ScriptError(script.file, place.line, place.column, why)
    version = {"ipv4": 4, "ipv6": 6}.get(script.settings.get("ip_version", ""), version)
    server, peer = _ADDRESSES[version]
    tolerance = _number(script, "tolerance_usecs", 0) / 1e6
    tick = _number(script, "tcp_ts_tick_usecs", 0) / 1e6
    return Terms(
        script.settings.get("local_ip", server),
        script.settings.get("remote_ip", peer),
        _number(script, "mtu", _MTU[version]),
        Rules(max(tolerance, TOLERANCE_S), tick or None, "strict_segments" in script.settings),
    )


def _number(script: Script, name: str, usual: int) -> int:
    text = script.settings.get(name, str(usual))
    if not text.isdecimal() or len(text) > 9:
        place = script.places[name]
        why = f"--{name} needs a number, not {text!r}"
        raise ScriptError(script.file, place.line, place.column, why)
    return int(text)


def refusal(script: Script) -> str | None:
    """Why a script cannot be asked of any side, as far as that can be seen before; else None."""
    for event in script.events:
        try:
            match event.action:
                case Call() as call:
                    calls.ask(call)
                case Command(text):
                    commands.settings_in(text)
                case Code(text):
                    asserts.names_in(text)
        except UsageError as error:
            return str(error)
    return None


def to_model(script: Script, given: Terms) -> Result:
    """What the model does."""
    side = ModelSide(given.server, given.mtu)
    return Judge(script, side, Speaker(given.peer, given.server), given.rules).run()


def to_linux(script: Script, given: Terms, tries: int = TRIES) -> Result:
    """What Linux does: the best of so many times, since a busy machine is late now and then.

    Needs CAP_SYS_ADMIN and /dev/net/tun; raises KernelError.
    """
    while True:
        with linux(given.server, given.mtu) as side:
            result = Judge(script, side, Speaker(given.peer, given.server), given.rules).run()
        tries -= 1
        if result.verdict is not Verdict.DIFFERENT or tries <= 0:
            return result
