"""The programs and maps that carry in one network namespace, and where they are attached."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from segue.bpf.btf_fields import function
from segue.bpf.insn import Instruction
from segue.engine import (
    carry_answer,
    carry_back,
    carry_classifier,
    carry_facts,
    carry_head,
    carry_look,
    carry_notes,
    carry_waiting,
)
from segue.engine.carry_facts import Pair
from segue.engine.carry_waiting import Unread, Waiting
from segue.errors import KernelError
from segue.linux import bpf, socket_filter, tcx
from segue.linux.bpf import Descriptor, Program
from segue.linux.bpf_attr import AttachType, MapType
from segue.linux.bpf_maps import Map
from segue.linux.closing import Closing
from segue.linux.ringbuf import RingBuffer
from segue.observe.carrying import CLASSIC, LISTEN, Held, Note, Refusal

_ENTRIES = 4096
_NOTES = 65_536
_LOOK, _FILTER, ANSWERS = "segue_look", "segue_watch", "segue_answers"
_LEAST_PACKET = 64  # with which a program can be run
_GONE = {errno.ENODEV, errno.ENOENT}  # an interface that went meanwhile


@dataclass(frozen=True, slots=True)
class Look:
    """A connection in the kernel: whether its filter is ours, and what that noted."""

    held: Held
    ours: bool
    note: Note | None


class Programs(Closing):
    """The classifiers at the interfaces, the looks, and the filter that holds and takes notes.

    ``entries`` are the connections that are to be made, ``until`` says until when one is held, and
    ``back`` has what was dropped meanwhile.
    What has the filter keeps it, with its maps, when this is closed; nothing is held then.
    """

    def __init__(self, *, answers: bool = False) -> None:
        """With ``answers`` what is sent is read too.  Raises NotSupported, VerifierError,
        KernelError.
        """
        with ExitStack() as stack:
            own = stack.enter_context
            self.entries = own(
                _map("segue_carry", carry_classifier.KEY_BYTES, carry_classifier.VALUE_BYTES)
            )
            self.until = own(_map("segue_hold", 8, 8))
            self.back = own(RingBuffer.create(carry_back.RING_BYTES, "segue_back"))
            self._notes = own(
                Map.create(
                    MapType.LRU_HASH,
                    key_size=8,
                    value_size=carry_look.NOTE_BYTES,
                    entries=_NOTES,
                    name="segue_notes",
                )
            )
            block = own(_block(carry_head.BLOCK_BYTES))
            self._block = own(_block(carry_answer.BLOCK_BYTES)) if answers else None
            self.waiting = own(Waiting())
            places, bell = self.waiting.places.fileno(), self.waiting.bell.fileno()
            types = carry_facts.types()  # takes long: permission is asked for first
            kernel = function(types, carry_classifier.FUNCTION, carry_classifier.NEEDS)
            where = carry_look.fields(types)
            notes = self._notes.fileno()
            self._looks = {
                version: own(_classifier(_LOOK, carry_look.look(where, size, notes)))
                for version, size in ((4, carry_look.IPV4_TUPLE), (6, carry_look.IPV6_TUPLE))
            }
            self._filter = own(
                Program.load(
                    carry_notes.program(
                        self.until.fileno(),
                        self.entries.fileno(),
                        self.back.fileno(),
                        notes,
                        block.fileno(),
                        places,
                        bell,
                        types,
                    ),
                    name=_FILTER,
                    attach_type=AttachType.SOCKET,
                    license_text=carry_classifier.LICENSE,
                )
            )
            scan = carry_waiting.scan(carry_waiting.fields(types), places)
            self._scan = own(_classifier("segue_scan", scan))
            self.filter_id = self._filter.info().id
            self._others: dict[int, bool] = {}  # programs of others are the filter, by number
            # By the bytes of an interface's link header, and by where they are.
            self._kernel, self._classifiers = kernel, dict[tuple[int, AttachType], Program]()
            self._links: dict[int, list[Descriptor]] = {}
            stack.callback(self._detach)
            self.follow_interfaces()
            self._owned = stack.pop_all()

    def follow_interfaces(self) -> None:
        """Attach the classifiers to interfaces that are new; a tenth of a millisecond.

        Raises KernelError.
        """
        there = tcx.interfaces()
        for index in self._links.keys() - there.keys():
            _close(self._links.pop(index))
        for index in there.keys() - self._links.keys():
            links: list[Descriptor] = []
            try:
                for where in self._where:
                    program = self._classifier(there[index], where)
                    links.append(tcx.attach(program, index, where))
            except KernelError as error:
                _close(links)
                if error.errno not in _GONE:
                    raise
            else:
                self._links[index] = links

    @property
    def _where(self) -> list[AttachType]:
        return [AttachType.TCX_INGRESS, *([AttachType.TCX_EGRESS] if self._block else [])]

    def sees(self, interface: int) -> bool:
        """The classifier is at this interface, by its index; 0 is one that is not known."""
        return not interface or interface in self._links

    def _classifier(self, header: int, where: AttachType) -> Program:
        if (header, where) not in self._classifiers:
            if where is AttachType.TCX_INGRESS:
                entries = self.entries.fileno()
                notes = self._notes.fileno()
                code = carry_classifier.program(entries, notes, self._kernel, header)
                made = _classifier("segue_carry", code)
            else:
                assert self._block is not None
                notes = self._notes.fileno()
                code = carry_answer.program(notes, self._block.fileno(), header)
                made = _classifier(ANSWERS, code, where)
            self._classifiers[header, where] = made
        return self._classifiers[header, where]

    def hold(self, sock: socket.socket) -> Refusal | None:
        """The filter becomes the socket's, unless its owner has locked its own.

        Raises KernelError.
        """
        try:
            socket_filter.attach(sock, self._filter)
        except KernelError as error:
            if error.errno != errno.EPERM:
                raise
            return Refusal.LOCKED
        return None

    def earlier(self, number: int) -> bool:
        """The program with this number is the filter of a carrier that is gone, by its name."""
        if number not in self._others:
            self._others[number] = number != CLASSIC and bpf.program_name(number) == _FILTER
        return self._others[number]

    def look(self, pair: Pair) -> Look | None:
        """What a packet of the client would find; a listener too.  Raises KernelError."""
        packet = carry_look.asked(pair.addresses + pair.ports)
        if tcx.run(self._looks[pair.version], packet) != carry_look.THERE:
            return None
        held = Held(*carry_look.seen(packet))
        ours = held.filter_id == self.filter_id
        noted = carry_look.noted(packet) if ours else b""
        return Look(held, ours, carry_notes.decode(noted) if noted else None)

    def someone(self, pair: Pair) -> bool:
        """A packet of the client would find who has, or has just had, its connection.

        Raises KernelError.
        """
        packet = carry_look.asked(pair.addresses + pair.ports)
        verdict = tcx.run(self._looks[pair.version], packet)
        if verdict == carry_look.THERE:
            return Held(*carry_look.seen(packet)).state != LISTEN
        return verdict == carry_look.ENDING

    def unread(self) -> list[Unread]:
        """A sample of the requests that have come and wait to be read.  Raises KernelError."""
        tcx.run(self._scan, bytearray(_LEAST_PACKET))
        return self.waiting.unread()

    def close(self) -> None:
        """Take the classifier away; twice is no error."""
        self._owned.close()

    def _detach(self) -> None:
        for links in self._links.values():
            _close(links)
        _close(self._classifiers.values())
        self._links.clear()
        self._classifiers.clear()


def _classifier(
    name: str, code: list[Instruction], where: AttachType = AttachType.TCX_INGRESS
) -> Program:
    return Program.load(code, name=name, attach_type=where, license_text=carry_classifier.LICENSE)


def _close(those: Iterable[Descriptor]) -> None:
    for one in those:
        one.close()


def _block(size: int) -> Map:
    return Map.create(MapType.PERCPU_ARRAY, value_size=size, entries=1, name="segue_block")


def _map(name: str, key: int, value: int) -> Map:
    return Map.create(MapType.HASH, key_size=key, value_size=value, entries=_ENTRIES, name=name)
