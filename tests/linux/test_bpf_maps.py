"""Maps on the live kernel."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from tests.linux.test_bpf import PASS

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.linux.bpf import Program
from segue.linux.bpf_attr import MapType, Update
from segue.linux.bpf_maps import Map, possible_cpus
from segue.linux.sockopt import cookie, open_listener

HERE = Address("127.0.0.1", 8080)


def u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


@pytest.mark.root
def test_a_hash_map_is_a_dictionary_with_a_limit() -> None:
    """Update, look up, walk, delete; a missing key is None or False, one too many E2BIG."""
    with Map.create(MapType.HASH, value_size=8, entries=2, name="segue_hash") as table:
        assert table.lookup(u32(1)) is None
        assert table.next_key() is None
        table.update(u32(1), u64(10))
        table.update(u32(2), u64(20))
        assert table.lookup(u32(2)) == u64(20)
        assert sorted(table.keys()) == [u32(1), u32(2)]
        with pytest.raises(KernelError) as full:
            table.update(u32(3), u64(30))
        assert full.value.errno == errno.E2BIG
        assert table.delete(u32(1))
        assert not table.delete(u32(1))
        info = table.info()
        assert (info.name, info.entries, info.key_size, info.value_size) == ("segue_hash", 2, 4, 8)


NO_PREALLOC = 1  # BPF_F_NO_PREALLOC, which a trie asks for


@pytest.mark.root
@pytest.mark.parametrize("kind", list(MapType))
def test_every_kind_that_is_named_can_be_made(kind: MapType) -> None:
    """With the sizes and flags that its kind asks for; those per CPU have a value for each."""
    sizes = {MapType.RINGBUF: (0, 0, 4096)}.get(kind, (8, 8, 4))
    if kind in {MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.REUSEPORT_SOCKARRAY}:
        sizes = (4, 8, 4)
    key_size, value_size, entries = sizes
    flags = NO_PREALLOC if kind is MapType.LPM_TRIE else 0
    with Map.create(
        kind, key_size=key_size, value_size=value_size, entries=entries, flags=flags
    ) as made:
        assert made.info().kind == kind
        if kind.per_cpu:
            made.update_percpu(bytes(key_size), [u64(1)] * possible_cpus())
            assert made.lookup_percpu(bytes(key_size)) == [u64(1)] * possible_cpus()


@pytest.mark.root
def test_update_says_what_it_expects_to_find() -> None:
    """NOEXIST makes, EXIST replaces, and each refuses the other's case."""
    with Map.create(MapType.HASH, value_size=8, entries=2) as table:
        with pytest.raises(KernelError) as missing:
            table.update(u32(1), u64(1), Update.EXIST)
        assert missing.value.errno == errno.ENOENT
        table.update(u32(1), u64(1), Update.NOEXIST)
        with pytest.raises(KernelError) as there:
            table.update(u32(1), u64(1), Update.NOEXIST)
        assert there.value.errno == errno.EEXIST


@pytest.mark.root
def test_an_array_is_zero_and_whole_from_the_start() -> None:
    """Every key below its size is there; the one after is not."""
    with Map.create(MapType.ARRAY, value_size=5, entries=3) as array:
        assert list(array.keys()) == [u32(0), u32(1), u32(2)]
        assert array.lookup(u32(2)) == bytes(5)
        array.update(u32(2), b"12345")
        assert array.lookup(u32(2)) == b"12345"
        assert array.lookup(u32(3)) is None


@pytest.mark.root
def test_a_per_cpu_array_has_a_value_for_each_cpu() -> None:
    """One for each possible CPU, of the map's size although the kernel pads them to eight."""
    with Map.create(MapType.PERCPU_ARRAY, value_size=12, entries=2) as array:
        assert array.lookup_percpu(u32(0)) == [bytes(12)] * possible_cpus()
        values = [bytes([number]) * 12 for number in range(possible_cpus())]
        array.update_percpu(u32(1), values)
        assert array.lookup_percpu(u32(1)) == values
        assert array.lookup_percpu(u32(2)) is None
        with pytest.raises(UsageError, match="use lookup_percpu"):
            array.lookup(u32(1))
        with pytest.raises(UsageError, match="possible CPUs"):
            array.update_percpu(u32(1), [])


@pytest.mark.root
def test_a_sockarray_takes_listeners_and_tells_their_cookies(netns: int) -> None:
    """In by descriptor, out by cookie; the kernel takes a listener out when it is shut down."""
    with (
        Map.create(MapType.REUSEPORT_SOCKARRAY, value_size=8, entries=4) as sockets,
        open_listener(HERE, backlog=8) as listener,
    ):
        sockets.update(u32(3), u64(listener.fileno()))
        assert sockets.lookup(u32(3)) == u64(cookie(listener))
        with pytest.raises(KernelError) as twice:
            sockets.update(u32(2), u64(listener.fileno()))
        assert twice.value.errno == errno.EBUSY
        listener.shutdown(socket.SHUT_RDWR)
        assert sockets.lookup(u32(3)) is None


@pytest.mark.root
def test_wrong_sizes_never_reach_the_kernel() -> None:
    """It would read or write past our bytes."""
    with Map.create(MapType.ARRAY, value_size=8, entries=1) as array:
        with pytest.raises(UsageError, match="a key of this ARRAY must have 4 bytes"):
            array.lookup(u64(0))
        with pytest.raises(UsageError, match="a value of this ARRAY must have 8 bytes"):
            array.update(u32(0), u32(0))


@pytest.mark.root
def test_an_inherited_descriptor_is_asked_what_it_is() -> None:
    """A map is adopted with its sizes; a program, a file and nothing at all are refused."""
    with Map.create(MapType.PERCPU_ARRAY, value_size=48, entries=9) as made:
        with Map.adopt(os.dup(made.fileno())) as adopted:
            assert (adopted.kind, adopted.key_size, adopted.value_size) == (made.kind, 4, 48)
        with Program.load(PASS) as program, pytest.raises(KernelError, match="for a map"):
            Map.adopt(program.fileno())
        with open(os.devnull, "rb") as file, pytest.raises(KernelError, match="for a map"):
            Map.adopt(file.fileno())
    with pytest.raises(KernelError) as closed:
        made.lookup_percpu(u32(0))
    assert closed.value.errno == errno.EBADF
