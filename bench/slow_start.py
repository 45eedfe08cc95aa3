"""Applications that take long to import: they only wait, as for a disk or another service."""

from __future__ import annotations

import os
import time

from examples import hello, hello_wsgi

time.sleep(float(os.environ["BENCH_IMPORT_S"]))

asgi = hello.app
wsgi = hello_wsgi.app
