"""Web servers and proxies, and servers in JavaScript and Ruby."""

from __future__ import annotations

from bench.catalogue.entry import HERE, PORT, Entry

_INDEX = {"www/index.html": "ok\n"}
_RACK = "run ->(env) { [200, {'content-type' => 'text/plain'}, ['ok']] }\n"

ENTRIES = (
    Entry(
        "node", "node server.js {fd}", needs="node:http",
        files={"server.js": """
const server = require('node:http').createServer((request, response) => response.end('ok'))
server.listen({fd: Number(process.argv[2])})
process.on('SIGTERM', () => server.close())
"""},
        know="`server.listen({fd})`, and a handler for TERM that calls `server.close()`. From 23.1"
        " on also `reusePort: true` with `--bind-by worker`",
    ),
    Entry(
        "express", "node server.js {fd}", needs="express",
        files={"server.js": """
const app = require('express')()
app.get('/', (request, response) => response.send('ok'))
const server = app.listen({fd: Number(process.argv[2])})
process.on('SIGTERM', () => server.close())
"""},
        know="`app.listen({fd})`; otherwise as node",
    ),
    Entry(
        "fastify", "node server.js {fd}", needs="fastify",
        files={"server.js": """
const app = require('fastify')()
app.get('/', async () => 'ok')
app.ready().then(() => app.server.listen({fd: Number(process.argv[2])}))
process.on('SIGTERM', () => app.close())
"""},
        know="`app.ready()`, then `app.server.listen({fd})`: `app.listen` takes no descriptor",
    ),
    Entry(
        "nginx", "nginx -p . -c nginx.conf -g 'daemon off; pid nginx-{worker}.pid;'",
        "--bind-by worker --stop-signal QUIT",
        files={**_INDEX, "nginx.conf": f"""
error_log stderr warn;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path .;
    server {{ listen {HERE} reuseport; root www; }}
}}
"""},
        know="TERM cuts, QUIT finishes. Each worker needs a PID file of its own",
    ),
    Entry(
        "Apache",
        "apache2 -f apache.conf -d . -DFOREGROUND -c 'PidFile apache-{worker}.pid'",
        "--bind-by worker --inject --stop-signal WINCH --ready-http /index.html",
        files={**_INDEX, "apache.conf": f"""
ServerName x
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
User www-data
Group www-data
ErrorLog error.log
DocumentRoot www
Listen {HERE}
"""},
        target=f"http://{HERE}/index.html",
        know="TERM cuts, WINCH finishes. Each worker needs a PID file of its own. It sets"
        " `TCP_DEFER_ACCEPT`, unless the configuration has `AcceptFilter http none`",
    ),
    Entry(
        "HAProxy", "haproxy -db -f haproxy.cfg", "--stop-signal USR1",
        files={"haproxy.cfg": """
defaults
    mode http
    timeout client 10s
    timeout connect 1s
    timeout server 10s
frontend web
    bind fd@3
    http-request return status 200 content-type text/plain string ok
"""},
        know="TERM cuts, USR1 finishes",
    ),
    Entry(
        "lighttpd", "lighttpd -D -f lighttpd.conf", "--stop-signal INT",
        files={**_INDEX, "lighttpd.conf": f"""
server.document-root = var.CWD + "/www"
index-file.names = ("index.html")
server.bind = "127.0.0.1"
server.port = {PORT}
server.systemd-socket-activation = "enable"
"""},
        know="TERM cuts, INT finishes. It takes `LISTEN_FDS`",
    ),
    Entry(
        "h2o", "h2o -m worker -c h2o.conf", f"--env SERVER_STARTER_PORT={HERE}=3",
        files={**_INDEX, "h2o.conf": f"""
listen:
  host: 127.0.0.1
  port: {PORT}
num-threads: 1
hosts:
  default:
    paths:
      /:
        file.dir: www
"""},
        know="takes descriptors as from Server::Starter",
    ),
    Entry(
        "Caddy", "caddy run --config Caddyfile", "--bind-by worker",
        files={"Caddyfile": f"""
{{
    admin off
    auto_https off
    grace_period 30s
    storage file_system .
    log {{
        level ERROR
    }}
}}
http://{HERE} {{
    bind 127.0.0.1
    respond "ok"
}}
"""},
        know="it sets `SO_REUSEPORT`, also at its admin endpoint, localhost:2019, where any of the"
        " workers would answer: `admin off`",
    ),
    Entry(
        "puma", f"puma -b tcp://{HERE} config.ru", "--ready accept",
        files={"config.ru": _RACK},
        know="takes `LISTEN_FDS` for the same address. Without `--ready accept` it says at each"
        " start if it lacks the gem sd_notify",
    ),
    Entry(
        "unicorn", f"unicorn -l {HERE} config.ru", "--stop-signal QUIT",
        files={"config.ru": _RACK},
        know="takes `LISTEN_FDS`. TERM cuts, QUIT finishes. Give no `pid` in its configuration",
    ),
    Entry(
        "Varnish",
        f"sh -c 'exec varnishd -F -n $PWD/v{{worker}} -a {HERE} -f $PWD/web.vcl'",
        "--bind-by worker --inject",
        files={"web.vcl": """vcl 4.1;
backend none none;
sub vcl_recv { return (synth(200)); }
"""},
        needs="varnishd",
        know="`-n` must name a directory of its own for each worker. `-f` takes an absolute path,"
        " or a name below /etc/varnish. The cache is empty after a restart",
    ),
    Entry(
        "tinyproxy", "tinyproxy -d -c tinyproxy.conf", "--bind-by worker --inject",
        files={"tinyproxy.conf": f"""
Port {PORT}
Listen 127.0.0.1
Timeout 60
StatHost "127.0.0.1"
MaxClients 200
LogLevel Critical
"""},
        know="give no `PidFile`, or each its own",
    ),
    Entry(
        "Squid", "squid -N -f squid.conf", "--bind-by worker --inject",
        files={"squid.conf": f"""
http_port {HERE}
pid_filename none
access_log none
cache_log /dev/null
cache_mem 8 MB
shutdown_lifetime 10 seconds
http_access allow all
netdb_filename none
"""},
        know="`pid_filename none`. It waits for open answers for `shutdown_lifetime` (30 s); the"
        " memory cache is empty after a restart, and two must not share a `cache_dir`",
    ),
    Entry(
        "mini_httpd", "mini_httpd -D -h {host} -p {port} -d .", "--bind-by worker --inject",
        files={"index.html": "hello"},
        know="each connection is a process of its own",
    ),
    Entry(
        "webfs", "webfsd -F -i {host} -p {port} -r . -f index.html", "--bind-by worker --inject",
        files={"index.html": "hello"},
    ),
)  # fmt: skip
