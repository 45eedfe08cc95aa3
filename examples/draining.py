"""The hello applications, which close kept connections before they are stopped."""

from __future__ import annotations

from examples import hello, hello_wsgi
from segue.asgi import Draining as AsgiDraining
from segue.wsgi import Draining as WsgiDraining

app = AsgiDraining(hello.app)
wsgi = WsgiDraining(hello_wsgi.app)
