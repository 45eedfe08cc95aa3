"""A policy decides in the kernel as it does in plain Python, asked by real segments."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.policy.clients import depth
from tests.policy.generated import Written, from_text, policies
from tests.policy.segments import ACK, SYN, answer, packet
from tests.policy.test_agreement import fresh, held
from tests.waiting import PATIENCE, wait_until

from segue.engine.loaded import create, fill, load_over
from segue.linux import sysctl
from segue.linux.bpf import attach_reuseport
from segue.linux.ringbuf import RingBuffer
from segue.linux.sockopt import cookie
from segue.linux.tun import Tun
from segue.policy import common
from segue.policy.builtin import encode_number, encode_socket
from segue.policy.compile import Compiled, compile_policy
from segue.policy.integers import u32, u64
from segue.policy.language import Migrating, Verdict
from segue.policy.library import LIBRARY, tenants
from segue.policy.maps import Kind, Map, Ring
from segue.policy.plain import Conn, Decision, PlainGroup, Policy

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

PORT = 8080
MEMBERS = (0, 2, 3, 6)
FIRST_SEQUENCE = 1000
TRIES = 5  # for each, a SYN-ACK is repeated once more before the listener closes
LOCAL4, NET4 = 0x0A090001, 0x0A090000
LOCAL6, NET6 = (0xFD090000, 0, 0, 1), (0xFD090000, 0, 0)


@st.composite
def clients(draw: st.DrawFn) -> list[Conn]:
    """Some that are all told apart by their ports, behind the network of ``network``."""
    ports = draw(st.lists(st.integers(1, 65535), min_size=12, max_size=12, unique=True))
    return [draw(_client(port)) for port in ports]


def _client(port: int) -> st.SearchStrategy[Conn]:
    host = st.integers(2, 65000)
    options = st.integers(0, 10).map(lambda words: u32(4 * words))
    shared: dict[str, st.SearchStrategy[Any]] = {
        "remote_port": st.just(u32(port)),
        "local_port": st.just(u32(PORT)),
        "options_length": options,
        "bind_inany": st.just(True),
        "tcp_flags": st.just(u32(SYN)),
    }
    return st.one_of(
        st.builds(
            Conn,
            remote_ip4=host.map(lambda low: u32(NET4 + low)),
            local_ip4=st.just(u32(LOCAL4)),
            **shared,
        ),
        st.builds(
            Conn,
            ipv6=st.just(True),
            remote_ip6=host.map(lambda low: (*map(u32, NET6), u32(low))),
            local_ip6=st.just(tuple(map(u32, LOCAL6))),
            flow_label=st.integers(0, 0xFFFFF).map(u32),
            **shared,
        ),
    )


@dataclass
class Rig:
    """One traced program over a group that takes both families, and the clients' network."""

    tun: Tun
    compiled: Compiled
    stack: ExitStack
    listeners: dict[int, socket.socket] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)  # port -> sequence of its SYN-ACK
    heard: Counter[int] = field(default_factory=Counter)  # port -> SYN-ACKs

    def __post_init__(self) -> None:
        self.maps = {one.name: self.stack.enter_context(create(one)) for one in self.compiled.maps}
        for one in self.compiled.maps:
            if isinstance(one, Map) and one.kind is not Kind.SOCKETS:
                fill(self.maps[one.name], one)
        self.ring = self.stack.enter_context(RingBuffer(self.maps["events"]))
        program = self.stack.enter_context(load_over(self.compiled, self.maps))
        for slot in MEMBERS:
            listener = self.stack.enter_context(socket.socket(socket.AF_INET6))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", PORT))
            listener.listen(512)
            self.listeners[slot] = listener
            if "sockets" in self.maps:
                self.maps["sockets"].update(encode_number(slot), encode_socket(listener.fileno()))
        attach_reuseport(listener.fileno(), program.fileno())

    def records(self, count: int) -> list[dict[str, int]]:
        """The next so many."""
        found: list[dict[str, int]] = []
        end = time.monotonic() + PATIENCE
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} records, not {count}"
            select.select([self.ring], [], [], 0.1)
            found += map(common.events.read, self.ring.records())
        return found

    def told(self) -> bool:
        """A record waits."""
        return bool(select.select([self.ring], [], [], 0)[0])

    def hear(self, conn: Conn, times: int) -> None:
        """Until this client has got its SYN-ACK so often."""
        end = time.monotonic() + PATIENCE
        while self.heard[int(conn.remote_port)] < times:
            assert time.monotonic() < end, f"no SYN-ACK to {conn.remote_port}"
            select.select([self.tun], [], [], 0.1)
            while (data := self.tun.read()) is not None:
                found = answer(data)
                if found is not None and found.flags == SYN | ACK:
                    self.answers[found.port] = found.sequence
                    self.heard[found.port] += 1

    def end_handshake(self, conn: Conn) -> None:
        """Its last ACK."""
        acknowledged = self.answers[int(conn.remote_port)] + 1
        self.tun.write(packet(conn, ACK, FIRST_SEQUENCE + 1, acknowledged))

    def queued(self) -> int:
        """Children in all queues."""
        return sum(map(depth, self.listeners.values()))


def check(rig: Rig, conn: Conn, record: dict[str, int]) -> Decision:
    """What the kernel did and said, against the same question in plain Python."""
    seen = replace(
        conn,
        hash=u32(record["hash"]),
        cookie=u64(record["cookie"]),
        child_cookie=u64(record["child_cookie"]),
    )
    group = PlainGroup(set(rig.listeners))
    decision = rig.compiled.policy.decide(seen, group)
    common.finish(seen, u32(group.selected), group.missed, decision.verdict, False)
    remote = conn.remote_ip6 if conn.ipv6 else (0, 0, 0, conn.remote_ip4)
    told = {name: record[name] for name in record if name not in ("when", "unused")}
    assert told == {
        "cookie": seen.cookie,
        "child_cookie": seen.child_cookie,
        "hash": seen.hash,
        "slot": decision.slot,
        **{f"remote_{word}": remote[word] for word in range(4)},
        "remote_port": conn.remote_port,
        "kind": conn.migrating,
        "ipv6": conn.ipv6,
        "passed": decision.verdict is Verdict.PASS,
        "missed": group.missed,
    }
    return decision


def compare_maps(rig: Rig) -> None:
    """All that the policy wrote and counted."""
    for declared in rig.compiled.maps:
        if isinstance(declared, Ring) or declared.kind is Kind.SOCKETS:
            continue
        made = rig.maps[declared.name]
        found: dict[int, bytearray] = {}
        for key in made.keys():  # noqa: SIM118  no mapping
            number = int.from_bytes(key, sys.byteorder)
            if made.kind.per_cpu:
                values = made.lookup_percpu(key) or []
                words = [memoryview(one).cast("Q") for one in values]
                total = [sum(parts) for parts in zip(*words, strict=True)]
                data = b"".join(part.to_bytes(8, sys.byteorder) for part in total)
            else:
                data = made.lookup(key) or b""
            found[number] = bytearray(data)
        assert held(declared, found) == held(declared, declared.contents), declared.name


def question(tun: Tun, policy: Policy, asking: list[Conn]) -> None:
    """SYNs, then a listener closes over children, then over half-open requests.

    Again from the same beginning if there was a difference after so long that a SYN-ACK may have
    been repeated: its timer asks the policy as well, of a request whose listener has closed. The
    timer goes after 1, 3, 7 seconds and so on, so the next try waits for a longer pause.
    """
    compiled = compile_policy(policy, traced=True)
    maps = [one for one in compiled.maps if isinstance(one, Map)]
    given = [deepcopy(one.contents) for one in maps]
    for repeats in range(TRIES):
        for one, contents in zip(maps, given, strict=True):
            one.contents = deepcopy(contents)
        common.events.records.clear()
        begun = time.monotonic()
        try:
            put(tun, compiled, asking, repeats)
        except AssertionError:
            if repeats == TRIES - 1 or time.monotonic() - begun < 0.9 * (2 ** (repeats + 1) - 1):
                raise
        else:
            return


def put(tun: Tun, compiled: Compiled, asking: list[Conn], repeats: int) -> None:
    """The question, once; each SYN-ACK has been repeated so often when a listener closes."""
    with ExitStack() as stack:
        rig = Rig(tun, compiled, stack)
        heard: list[tuple[Conn, Decision]] = []
        for conn in asking:
            tun.write(packet(conn, SYN, FIRST_SEQUENCE))
            heard.append((conn, check(rig, conn, rig.records(1)[0])))
        compare_maps(rig)
        shaking = [conn for conn, decision in heard if decision.verdict is Verdict.PASS]
        for conn in shaking:
            rig.hear(conn, 1 + repeats)
        leaving = migrating(rig, shaking)
        if leaving is not None:
            compare_maps(rig)
            halfway(rig, leaving)


def migrating(rig: Rig, shaking: list[Conn]) -> list[Conn] | None:
    """Half of the handshakes end; the listener with the most children closes over them.

    Answers the clients that are still half-way at the one that closed; None when nobody was
    there.
    """
    half = len(shaking) // 2
    by_port = {int(conn.remote_port): conn for conn in shaking}
    for conn in shaking[:half]:
        rig.end_handshake(conn)
    wait_until(lambda: rig.queued() == half, "half of them are queued")
    depths = {slot: depth(listener) for slot, listener in rig.listeners.items()}
    slot = max(depths, key=lambda one: depths[one])
    if not depths[slot]:
        return None
    closing = rig.listeners.pop(slot)
    own = cookie(closing)
    closing.close()
    for record in rig.records(depths[slot]):
        assert record["cookie"] == own
        conn = by_port[record["remote_port"]]
        child = replace(
            conn,
            migrating=Migrating.CHILD,
            tcp_flags=u32(),
            options_length=u32(),
            flow_label=u32(),
        )
        check(rig, child, record)
    return shaking[half:]


def halfway(rig: Rig, shaking: list[Conn]) -> None:
    """Their last ACK asks again when their listener is the one that closed."""
    for conn in shaking:
        before = rig.queued()
        rig.end_handshake(conn)
        wait_until(lambda before=before: rig.told() or rig.queued() > before, "a verdict")  # type: ignore[misc]
        if rig.told():
            found = rig.records(1)
            asked = replace(conn, migrating=Migrating.REQUEST, tcp_flags=u32(ACK))
            decision = check(rig, asked, found[0])
            if decision.verdict is Verdict.DROP:
                # The ACK is now nobody's: the policy is asked again, and nothing is told of it.
                return


@pytest.fixture
def network(netns: int) -> Iterator[Tun]:
    """All clients are behind it; nothing but the program migrates."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with Tun() as tun:
        tun.configure("10.9.0.1/16")
        tun.configure("fd09::1/64")
        yield tun


# Not shrunk: an example has its own group and packets, and its text says all.
CHECKED = settings(
    phases=[Phase.explicit, Phase.generate],
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@CHECKED
@given(policies(steady=True), clients())
def test_a_generated_policy_decides_alike(
    network: Tun, written: Written, asking: list[Conn]
) -> None:
    """SYNs of both families, children and half-open requests; maps and counters after them."""
    fresh()
    question(network, written.policy, asking)


FIELDS = (
    "hash",
    "remote_ip4",
    "local_ip4",
    *(f"{end}_ip6[{word}]" for end in ("remote", "local") for word in range(4)),
    "remote_port",
    "local_port",
    "protocol",
    "flow_label",
    "tcp_flags",
    "options_length",
    "cookie",
    "child_cookie",
)
EVERYTHING = "".join(
    [
        "def written(conn, group):\n",
        f"    kind = conn.migrating * {len(FIELDS) + 2}\n",
        *(f"    seen[kind + {at}] = conn.{name}\n" for at, name in enumerate(FIELDS)),
        f"    seen[kind + {len(FIELDS)}] = 1 if conn.ipv6 else 2\n",
        f"    seen[kind + {len(FIELDS) + 1}] = 1 if conn.bind_inany else 2\n",
        "    return group.slot(conn.hash & 7).select()\n",
    ]
)


@settings(CHECKED, max_examples=10)
@given(clients())
def test_all_that_is_seen_of_a_connection(network: Tun, asking: list[Conn]) -> None:
    """Each field, new and migrating, of both families, as the client sent it."""
    fresh()
    seen = Map("seen", value="u64", size=4 * (len(FIELDS) + 2), kind="array")
    written = from_text(EVERYTHING, {"seen": seen})
    question(network, written.policy, asking)


@pytest.mark.parametrize("name", LIBRARY)
@settings(CHECKED, max_examples=5)
@given(clients(), st.dictionaries(st.integers(0, 15), st.integers(0, 7)))
def test_the_library_decides_alike(
    network: Tun, name: str, asking: list[Conn], homes: dict[int, int]
) -> None:
    """With homes for some of those who ask."""
    fresh()
    for number, slot in homes.items():
        conn = asking[number % len(asking)]
        common.pins[conn.remote_port ^ number & 1] = tenants[conn.remote_ip4 >> 8] = slot
    question(network, LIBRARY[name], asking)
