"""Servers from PyPI."""

from __future__ import annotations

from bench.catalogue.entry import Entry

_ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    fields = [(b"content-length", b"2"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"ok"})
"""
_WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]

application = app
"""
_TAKEN = "import socket, sys\nlistener = socket.socket(fileno=int(sys.argv[1]))\n"

ENTRIES = (
    Entry(
        "uvicorn", "uvicorn app:app --fd 3", files={"app.py": _ASGI},
        know="waits for open answers; `--timeout-graceful-shutdown` limits that",
    ),
    Entry(
        "gunicorn, sync", "gunicorn wsgi:app", files={"wsgi.py": _WSGI},
        know="takes `LISTEN_FDS` by itself; cuts answers after `--graceful-timeout` (30 s)",
    ),
    Entry(
        "gunicorn, gthread", "gunicorn --threads 8 wsgi:app",
        files={"wsgi.py": _WSGI}, know="as above",
    ),
    Entry(
        "gunicorn, uvicorn worker", "gunicorn -k uvicorn.workers.UvicornWorker app:app",
        needs="gunicorn", files={"app.py": _ASGI}, know="as above",
    ),
    Entry(
        "hypercorn", "hypercorn --graceful-timeout 30 -b fd://{fd} app:app",
        files={"app.py": _ASGI},
        know="without `--graceful-timeout` it cuts answers after 3 s",
    ),
    Entry(
        "granian", "granian --host {host} --port {port} --interface asgi app:app",
        "--bind-by worker", files={"app.py": _ASGI},
        know="takes no descriptor, and sets `SO_REUSEPORT`",
    ),
    Entry(
        "daphne", "daphne --fd {fd} app:app", files={"app.py": _ASGI},
    ),
    Entry(
        "aiohttp", "python server.py {fd}", needs="aiohttp",
        files={"server.py": f"""{_TAKEN}
from aiohttp import web

async def answer(request):
    return web.Response(text="ok")

app = web.Application()
app.router.add_get("/", answer)
web.run_app(app, sock=listener)
"""},
        know="`web.run_app(app, sock=...)`; `shutdown_timeout` is 60 s",
    ),
    Entry(
        "tornado", "python server.py {fd}", needs="tornado",
        files={"server.py": f"""{_TAKEN}
import asyncio
import tornado.web
from tornado.httpserver import HTTPServer

class Answer(tornado.web.RequestHandler):
    def get(self):
        self.write("ok")

async def main():
    listener.setblocking(False)
    server = HTTPServer(tornado.web.Application([("/", Answer)]))
    server.add_socket(listener)
    await asyncio.Event().wait()

asyncio.run(main())
"""},
        know="`server.add_socket(...)`. Without a handler of yours, TERM ends it at once",
    ),
    Entry(
        "waitress", "python server.py {fd}", needs="waitress",
        files={"wsgi.py": _WSGI, "server.py": f"""{_TAKEN}
from waitress import serve
from wsgi import app

serve(app, sockets=[listener])
"""},
        know="`serve(app, sockets=[...])`. Without a handler of yours, TERM ends it at once",
    ),
    Entry(
        "gevent", "python server.py {fd}", needs="gevent",
        files={"wsgi.py": _WSGI, "server.py": f"""{_TAKEN}
import signal
import gevent
from gevent import pywsgi
import gevent.socket
from wsgi import app

taken = gevent.socket.socket(fileno=listener.detach())
server = pywsgi.WSGIServer(taken, app, log=None)
gevent.signal_handler(signal.SIGTERM, server.stop, 10)
server.serve_forever()
"""},
        know="`WSGIServer(socket, app)`, with a handler for TERM that calls `server.stop(timeout)`",
    ),
    Entry(
        "twisted",
        "twistd -n --pidfile= web --listen systemd:domain=INET:index=0 --wsgi wsgi.app",
        "--env PYTHONPATH=.", files={"wsgi.py": _WSGI},
        know="`--pidfile=`, or the second worker finds `twistd.pid` and does not start",
    ),
    Entry(
        "cheroot", "python server.py {host} {port}", "--bind-by worker", needs="cheroot",
        files={"wsgi.py": _WSGI, "server.py": """
import signal, sys, threading
from cheroot.wsgi import Server
from wsgi import app

server = Server((sys.argv[1], int(sys.argv[2])), app, reuse_port=True)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop).start())
server.start()
"""},
        know="takes no descriptor: `Server(..., reuse_port=True)`. A handler for TERM that calls"
        " `server.stop()`",
    ),
    Entry(
        "sanic", "python server.py {fd}", needs="sanic",
        files={"server.py": f"""{_TAKEN}
from sanic import Sanic, text

app = Sanic("app")

@app.get("/")
async def answer(request):
    return text("ok")

if __name__ == "__main__":
    app.run(sock=listener, single_process=True, access_log=False, motd=False)
"""},
        know="`app.run(sock=..., single_process=True)`; `GRACEFUL_SHUTDOWN_TIMEOUT` is 15 s",
    ),
    Entry(
        "uWSGI",
        "uwsgi --plugin python3 --master --die-on-term --http-socket {host}:{port} --reuse-port"
        " --wsgi-file wsgi.py --disable-logging",
        "--bind-by worker", files={"wsgi.py": _WSGI},
        know="TERM reloads it unless `--die-on-term` is given, and it is killed after"
        " `--stop-timeout`. It sets `TCP_DEFER_ACCEPT`",
    ),
    Entry(
        "Flask's own server", "flask --app wsgi run",
        "--env WERKZEUG_RUN_MAIN=true --env WERKZEUG_SERVER_FD=3",
        files={"wsgi.py": """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def answer():
    return "ok"
"""},
        know="for development",
    ),
    Entry(
        "Django's runserver", "python manage.py runserver --noreload {host}:{port}",
        "--bind-by worker --inject", needs="django",
        files={"manage.py": """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x",
                   LOGGING_CONFIG=None)
urlpatterns = [path("", lambda request: HttpResponse("ok"))]
execute_from_command_line(sys.argv)
"""},
        know="for development. Without `--noreload` a child of it serves",
    ),
    Entry(
        "robyn", "python server.py --log-level WARN {host} {port}", "--bind-by worker",
        needs="robyn",
        files={"server.py": """
import sys
from robyn import Robyn

app = Robyn(__file__)

@app.get("/")
async def answer(request):
    return "ok"

if __name__ == "__main__":
    app.start(host=sys.argv[-2], port=int(sys.argv[-1]), _check_port=False)
"""},
        know="sets `SO_REUSEPORT`; without `_check_port=False` in `app.start` it does not start"
        " beside another one",
    ),
)  # fmt: skip
