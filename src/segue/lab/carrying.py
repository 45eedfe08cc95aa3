"""A connection of the model is carried as Linux's are: by the engine's rule, with its packet."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from segue.engine import carry_facts, carry_wish
from segue.engine.carry_facts import Pair
from segue.model.connection import Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.observe import carrying
from segue.observe.carrying import Held, Outside, Target
from segue.wire.seq import add


def carry(host: Host, now: float, connection: Connection, listeners: Sequence[Listener]) -> str:
    """It goes where the group selects, of these; what became of it, in the words of ``Report``."""
    sysctls = host.sysctls
    settings = carrying.Host(
        sysctls.tcp_syncookies,
        sysctls.tcp_timestamps,
        sysctls.tcp_sack,
        sysctls.tcp_window_scaling,
    )
    targets = [_target(host, one) for one in listeners]
    held, payload, pair = _held(connection), bytes(connection.incoming), _pair(connection)
    why = (
        carrying.before(settings, Outside(connected=not connection.over), targets)
        or carrying.refusal(settings, held, pair.version, carrying.room(targets))
        or carrying.with_unread(payload, held.unread)
    )
    if why is not None:
        return carry_wish.left_alone(why)
    said = host.attributes(now, connection)
    host.forget(now, connection)
    echo = carry_facts.echo(said.own_stamp, connection.srtt or 0.0)
    host.receive_assigned(now, pair.packet(held, payload, 0, echo), said)
    return carry_wish.carried(len(payload))


def _target(host: Host, listener: Listener) -> Target:
    buffer = host.getsockopt(listener, "SO_RCVBUF")
    return Target(len(listener.queue), listener.backlog, buffer)


def _pair(connection: Connection) -> Pair:
    addresses, ports = connection.path
    half = len(addresses) // 2
    ours = addresses[:half]
    return Pair(addresses[half:] + ours, ports[2:] + ports[:2], str(ipaddress.ip_address(ours)))


def _held(connection: Connection) -> Held:
    terms = connection.terms
    return Held(
        state=connection.state,
        rcv_nxt=connection.rcv_nxt,
        snd_nxt=connection.snd_nxt,
        snd_una=connection.snd_una,
        write_seq=connection.end,
        copied_seq=add(connection.rcv_nxt, -len(connection.incoming)),
        snd_wl1=connection.snd_wl1,
        snd_wnd=connection.snd_wnd,
        urg_data=0,
        ts_recent=connection.ts_recent,
        mss_clamp=terms.mss,
        snd_wscale=terms.scale_out,
        rcv_wscale=terms.scale_in or 0,
        wscale_ok=terms.scale_in is not None,
        sack_ok=terms.sack,
        tstamp_ok=terms.stamps,
        ecn_flags=int(terms.ecn),
        usec=0,
    )
