"""The series' own test (patch 8/8) told to the model: no kernel, no root, no clock.

Five listeners at one address, and a program that sends what migrates to the last of them.  25
clients connect and close at once; the first four listeners are closed; the fifth accepts 25.
"""

from segue.address import Address
from segue.model.client import Client
from segue.model.events import Moved
from segue.model.host import Host
from segue.model.profile import LINUX, SERIES, Profile
from segue.model.program import Program, Question, SkAction

SERVER = Address("10.77.0.2", 80)


def accepted(profile: Profile) -> tuple[int, int]:
    """How many the fifth accepts, and how many of them have moved to it."""
    host = Host(SERVER.host, secret=bytes(16), profile=profile)
    host.sysctls.tcp_migrate_req = 1
    *first_four, fifth = listeners = [host.socket() for _ in range(5)]
    for one in listeners:
        host.setsockopt(one, "SO_REUSEPORT", 1)
        host.bind(one, SERVER)
        host.listen(one, 32)

    def decide(asked: Question) -> int | SkAction:
        is_new = asked.path is not None and asked.migrating is None  # the series shows no packet
        return SkAction.PASS if is_new else fifth.cookie

    host.attach(fifth, Program(decide))
    for port in range(40000, 40025):
        client = Client(Address("10.77.0.1", port), SERVER)
        for say in (client.syn, client.ack, client.fin):
            host.receive(0.0, say())
            for packet in host.take():
                client.hears(packet)
    for one in first_four:
        host.close(0.0, one)
    moved = sum(isinstance(event, Moved) for event in host.events())
    return len([host.accept(fifth) for _ in range(25)]), moved


if __name__ == "__main__":
    for profile in (SERIES, LINUX):
        print("{}: {} accepted, of which {} have moved".format(profile.name, *accepted(profile)))
