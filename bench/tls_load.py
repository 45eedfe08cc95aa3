"""The probe over TLS, any certificate accepted and each one's first and last sight told.

Takes the options of ``python -m segue.probe``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from segue.probe.__main__ import parser, settings
from segue.probe.client import Client
from segue.probe.tls import options

if __name__ == "__main__":
    asked = replace(settings(parser().parse_args()), tls=options("", insecure=True))
    json.dump(Client(asked).run(until_closed=0).as_dict(), sys.stdout)
