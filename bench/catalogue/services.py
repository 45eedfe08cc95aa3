"""Servers that speak no HTTP."""

from __future__ import annotations

import struct

from bench.catalogue.entry import HERE, PORT, Entry, spoken

_NAME = b"\x01x\x07example\x00"
_QUERY = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + _NAME + struct.pack(">2H", 1, 1)
_DNS = spoken(struct.pack(">H", len(_QUERY)) + _QUERY, b"\x01x\x07example\x00")


def _fcgi(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def _parameters(**given: str) -> bytes:
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    return b"".join(bytes([len(name), len(value)]) + name + value for name, value in pairs)


_PING = (
    _fcgi(1, struct.pack(">HB5x", 1, 0))
    + _fcgi(4, _parameters(SCRIPT_NAME="/ping", SCRIPT_FILENAME="/ping", REQUEST_METHOD="GET"))
    + _fcgi(4, b"")
    + _fcgi(5, b"")
)

_ZONE = """$ORIGIN example.
@ SOA a b 1 1 1 1 1
@ NS a
a A 192.0.2.1
x A 192.0.2.1
"""

ENTRIES = (
    Entry(
        "pgbouncer", "pgbouncer pgbouncer.ini",
        "--bind-by worker --stop-signal INT --user nobody",
        files={"pgbouncer.ini": f"""
[databases]
x = host=127.0.0.1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {PORT}
so_reuseport = 1
unix_socket_dir =
auth_type = any
"""},
        target=HERE, ask=spoken(b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
        know="INT lets transactions end (from 1.23 on, TERM). No `pidfile` and no Unix socket, or"
        " each of its own. It sets `TCP_DEFER_ACCEPT`, unless `tcp_defer_accept = 0`",
    ),
    Entry(
        "memcached", "memcached -l {host} -p {port} -U 0 -u nobody", "--bind-by worker --inject",
        target=HERE, ask=spoken(b"version\r\n", b"VERSION"),
        know="each worker has a cache of its own, and a restart empties it",
    ),
    Entry(
        "redis", "redis-server --bind {host} --port {port} --save ''", "--bind-by worker --inject",
        target=HERE, ask=spoken(b"PING\r\n", b"+PONG"), workers=1,
        know="as a cache only: each worker has data of its own, and two must not write one file. In"
        " protected mode it answers 127.0.0.1 alone: `segue probe --from 127.0.0.1`",
    ),
    Entry(
        "dnsdist", "dnsdist --supervised --disable-syslog -C dnsdist.conf", "--bind-by worker",
        files={"dnsdist.conf": f"""
addLocal("{HERE}", {{reusePort=true}})
addAction(AllRule(), SpoofAction("192.0.2.1"))
"""},
        target=HERE, ask=_DNS,
        know="`reusePort=true`. Segue moves TCP only; UDP goes by the kernel's hash",
    ),
    Entry(
        "php-fpm", "php-fpm8.2 -F -O -y fpm.conf -n",
        f"--stop-signal QUIT --env FPM_SOCKETS={HERE}=3",
        files={"fpm.conf": f"""
[global]
error_log = /dev/stderr
[www]
user = www-data
listen = {HERE}
pm = static
pm.max_children = 4
ping.path = /ping
"""},
        target=HERE, ask=spoken(_PING, b"pong"),
        know="QUIT finishes, within `process_control_timeout` (0 s unless it is set). `FPM_SOCKETS`"
        " is how it hands sockets to itself",
    ),
    Entry(
        "mosquitto", "mosquitto -c mosquitto.conf", "--bind-by worker --inject",
        files={"mosquitto.conf": f"""
listener {PORT} 127.0.0.1
allow_anonymous true
log_type error
"""},
        target=HERE, ask=spoken(b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01x", b"\x20\x02"), workers=1,
        know="one worker: each has sessions and messages of its own",
    ),
    Entry(
        "unbound", "unbound -d -c unbound.conf", "--bind-by worker --inject",
        files={"unbound.conf": f"""
server:
    interface: 127.0.0.1@{PORT}
    do-daemonize: no
    use-syslog: no
    chroot: ""
    username: ""
    pidfile: ""
    so-reuseport: yes
    local-zone: "example." static
    local-data: "x.example. A 192.0.2.1"
"""},
        target=HERE, ask=_DNS,
        know="no `pidfile`, or each its own. Segue moves TCP only; UDP goes by the kernel's hash",
    ),
    Entry(
        "Knot DNS",
        "sh -c 'mkdir -p {worker}; sed s/%/{worker}/ knot.conf > {worker}/conf;"
        " exec knotd -c {worker}/conf'",
        "--bind-by worker --inject", needs="knotd",
        files={"example.zone": _ZONE, "knot.conf": f"""
server:
    rundir: "%"
    listen: 127.0.0.1@{PORT}
database:
    storage: "%"
zone:
  - domain: example
    storage: "."
    file: example.zone
"""},
        target=HERE, ask=_DNS,
        know="`rundir` and `storage` of its own for each worker: the first one's PID file, and the"
        " lock of its database, keep the second from starting",
    ),
    Entry(
        "sshd", "/usr/sbin/sshd -D -e -f sshd.conf",
        "--bind-by worker --inject --leftovers keep",
        files={"sshd.conf": f"""
ListenAddress {HERE}
HostKey {{place}}/key
PidFile none
MaxStartups 1000
"""},
        target=HERE, ask=spoken(b"", b"SSH-"),
        know="needs its full path, and /run/sshd. Sessions are processes of their own: `--leftovers"
        " keep` lets them live on. It refuses some of many that come at once (`MaxStartups`)",
    ),
    Entry(
        "beanstalkd", "beanstalkd",
        target=HERE, ask=spoken(b"use x\r\n", b"USING x"), workers=1,
        know="takes `LISTEN_FDS`. One worker: each has jobs of its own, and two must not write one"
        " `-b` directory",
    ),
    Entry(
        "NSD", "nsd -d -c nsd.conf", "--bind-by worker --inject",
        files={"example.zone": _ZONE, "nsd.conf": f"""
server:
    ip-address: 127.0.0.1@{PORT}
    username: ""
    chroot: ""
    pidfile: ""
    xfrdfile: ""
    zonelistfile: ""
    database: ""
    zonesdir: "."
    reuseport: yes
    server-count: 2
remote-control:
    control-enable: no
zone:
    name: example
    zonefile: example.zone
"""},
        target=HERE, ask=_DNS,
        know='`database`, `pidfile`, `xfrdfile` and `zonelistfile` `""`, or each its own;'
        " `control-enable: no`; `reuseport: yes` and a `server-count` of 2, for UDP. Segue moves"
        " TCP only; UDP goes by the kernel's hash",
    ),
    Entry(
        "PowerDNS Recursor",
        "sh -c 'mkdir -p {worker}; exec pdns_recursor --config-dir=. --socket-dir={worker}"
        f" --daemon=no --write-pid=no --local-address={HERE} --reuseport=yes"
        " --security-poll-suffix= --auth-zones=example=example.zone'",
        "--bind-by worker", needs="pdns_recursor",
        files={"example.zone": _ZONE, "recursor.conf": ""},
        target=HERE, ask=_DNS,
        know="`reuseport=yes`, `write-pid=no`, and a `socket-dir` of its own for each worker, or"
        " one takes the other's control socket. Segue moves TCP only; UDP goes by the kernel's"
        " hash",
    ),
)  # fmt: skip
