"""A SYN comes to a listener: a request, a cookie, a Fast Open child, or nothing.

Stands for tcp_conn_request.
"""

from __future__ import annotations

from segue.model import cookies, keepalive, output, receive_window
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.durations import TIMEOUT_INIT
from segue.model.events import Acceptable, CookieSent, Refusal, Refused
from segue.model.listener import Listener
from segue.model.net import Chance, Net
from segue.model.request import Request, Terms
from segue.model.states import SYN_RECV, State
from segue.model.sysctls import (
    FAST_OPEN_EVERY_LISTENER,
    FAST_OPEN_SERVER,
    FAST_OPEN_WITHOUT_COOKIE,
)
from segue.wire.options import Options
from segue.wire.seq import Seq, add
from segue.wire.tcp import CWR, ECE

_ASKS_ECN = ECE | CWR  # RFC 3168, 6.1.1
_MASK = 0xFFFFFFFF


def arrived(
    net: Net, listener: Listener, arrival: Arrival, chance: Chance, reused: Seq | None = None
) -> None:
    """Answer a SYN, or drop it and count that; a cookie is sent where no request can be kept.

    ``reused`` is the number to begin with when the flow was in TIME_WAIT.
    """
    counts, sysctls = net.counts, net.sysctls
    cookie = False
    if (sysctls.tcp_syncookies == 2 or listener.requests_full) and reused is None:
        cookie = bool(sysctls.tcp_syncookies)
        counts["TCPReqQFullDoCookies" if cookie else "TCPReqQFullDrop"] += 1
        if not cookie:
            _refuse(net, listener, Refusal.HALF_OPEN_ARE_FULL)
            return
    if listener.full:
        counts["ListenOverflows"] += 1
        _refuse(net, listener, Refusal.QUEUE_IS_FULL)
        return
    left = sysctls.tcp_max_syn_backlog - listener.requests
    if not cookie and not sysctls.tcp_syncookies and left < sysctls.tcp_max_syn_backlog >> 2:
        # What is left is for clients known from before; we know none.
        _refuse(net, listener, Refusal.RESERVED)
        return
    request = _request(net, listener, arrival, chance, cookie=cookie)
    if cookie:
        _send_cookie(net, listener, request, arrival)
        return
    request.iss = net.isn(chance) if reused is None else reused
    asks = arrival.flags & _ASKS_ECN == _ASKS_ECN and not arrival.ecn
    request.terms.ecn = asks and bool(sysctls.tcp_ecn)
    if _fast_open(net, listener, arrival, request):
        return
    net.flows[request.flow] = request
    listener.requests += 1
    listener.young += 1
    listener.references += 1
    request.sent_at = net.now
    net.timers.set(request, net.after(TIMEOUT_INIT))
    output.syn_ack(net, request)


def _refuse(net: Net, listener: Listener, reason: Refusal) -> None:
    net.counts["ListenDrops"] += 1
    net.events.append(Refused(listener.cookie, reason))


def _request(
    net: Net, listener: Listener, arrival: Arrival, chance: Chance, *, cookie: bool
) -> Request:
    said = arrival.options
    if cookie and said.stamps is None:
        # There is nowhere to remember them (FACTS, cookies).
        said = Options(mss=said.mss)
    path = arrival.path
    return Request(
        cookie=next(net.cookies),
        path=path,
        flow=arrival.flow,
        hash=chance.hash,
        listener=listener,
        irs=arrival.seq,
        iss=Seq(0),
        terms=Terms.of(
            said, ipv6=path.is_ipv6, mtu=net.mtu, options=listener.options, sysctls=net.sysctls
        ),
        ts_recent=said.stamps[0] if said.stamps else 0,
        ts_offset=chance.stamp_offset,
        saved_syn=arrival.packet if listener.options.get("TCP_SAVE_SYN") else None,
    )


def _send_cookie(net: Net, listener: Listener, request: Request, arrival: Arrival) -> None:
    group = listener.group
    assert group is not None
    group.overflowed_at = net.now
    terms, ipv6 = request.terms, request.path.is_ipv6
    request.iss = cookies.make(net.secret, net.now, request.flow, request.irs, terms.mss, ipv6=ipv6)
    if terms.stamps:
        said = cookies.stamp(net.stamp(0), terms, arrival.options)
        request.first_stamp = said + request.ts_offset & _MASK
    net.counts["SyncookiesSent"] += 1
    net.events.append(CookieSent(listener.cookie))
    output.syn_ack(net, request, cookie=True)


def _fast_open(net: Net, listener: Listener, arrival: Arrival, request: Request) -> bool:
    """Make a child at once if the client may (tcp_try_fastopen); else a cookie may be given."""
    sysctls = net.sysctls
    offered, setting = arrival.options.fast_open, sysctls.tcp_fastopen
    if offered == b"":
        net.counts["TCPFastOpenCookieReqd"] += 1
    if not setting & FAST_OPEN_SERVER or (not arrival.payload and offered is None):
        return False
    slots = listener.fast_open
    if not slots.limit and setting & FAST_OPEN_EVERY_LISTENER:
        slots.limit = listener.backlog
    if not slots.has_room(net.now):
        if slots.limit:
            net.counts["TCPFastOpenListenOverflow"] += 1
        return False
    free = bool(
        setting & FAST_OPEN_WITHOUT_COOKIE or listener.options.get("TCP_FASTOPEN_NO_COOKIE")
    )
    keys = cookies.fast_open_keys(sysctls.tcp_fastopen_key, slots.keys, net.secret)
    right = [cookies.fast_open(key, request.path.addresses) for key in keys]
    request.experimental = arrival.options.experimental
    if not free and offered not in right:
        if offered is not None:
            request.fast_open = right[0]
        if offered:
            net.counts["TCPFastOpenPassiveFail"] += 1
        return False
    if not free and offered != right[0]:
        request.fast_open = right[0]  # of an older key: the client is given the newer cookie
        net.counts["TCPFastOpenPassiveAltKey"] += 1
    net.counts["TCPFastOpenPassive"] += 1
    _fast_open_child(net, listener, arrival, request)
    return True


def _fast_open_child(net: Net, listener: Listener, arrival: Arrival, request: Request) -> None:
    child = connection(request, listener, SYN_RECV, arrival.window, net.now)
    if arrival.payload:
        receive_window.of(net, child).queue(len(arrival.payload), len(arrival.packet))
        child.incoming += arrival.payload
        child.received = len(arrival.payload)
        child.rcv_nxt = add(child.rcv_nxt, child.received)
        child.sent_ack = child.rcv_nxt
        child.offered_edge = add(child.offered_edge, child.received)
        request.early = len(arrival.payload)
        child.syn_data = True
    child.request = request
    request.child = child
    listener.references += 1
    listener.fast_open.used += 1
    net.flows[child.flow] = child
    child.retransmit_at = net.after(TIMEOUT_INIT)
    request.sent_at = net.now
    output.syn_ack(net, request)
    output.rearm(net, child)
    listener.queue.append(child)
    net.events.append(Acceptable(listener.cookie))


def connection(
    request: Request, maker: Listener, state: State, window: int, now: float
) -> Connection:
    """The child of a request, with the options of the listener that makes it."""
    iss, first = request.iss, add(request.irs, 1)
    begin = add(iss, 1)
    made = Connection(
        cookie=request.cookie,
        path=request.path,
        flow=request.flow,
        hash=request.hash,
        state=state,
        terms=request.terms,
        options=maker.options,
        rcv_nxt=first,
        base=begin,
        snd_una=begin,
        snd_nxt=begin,
        snd_wnd=window,
        ts_recent=request.ts_recent,
        ts_offset=request.ts_offset,
        listener=maker,
        saved_syn=request.saved_syn,
    )
    made.snd_wl1 = request.irs
    made.snd_max_wnd = window
    made.reckoned_wnd = window << (request.terms.scale_out if state is SYN_RECV else 0)
    made.reckon_sizes()
    made.small = made.pushed = made.round_end = iss
    made.sent_ack, made.offered_edge = first, add(first, request.terms.window)
    made.sent_at = made.made_at = made.acked_at = now
    made.interactive = not maker.options.get("TCP_QUICKACK", 1)
    if maker.options.get("SO_KEEPALIVE"):
        made.keep_at = now + maker.options.get("TCP_KEEPIDLE", keepalive.DEFAULTS["TCP_KEEPIDLE"])
    return made
