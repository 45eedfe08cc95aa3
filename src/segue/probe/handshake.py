"""The TLS handshake of a connection, in the words of ``fates``."""

from __future__ import annotations

from segue.errors import WireError
from segue.probe.fates import End, Ended
from segue.probe.tls import TlsSocket


def shake(sock: TlsSocket) -> Ended | bool:
    """Go on as far as the received bytes allow; True when it is over, False to wait."""
    try:
        sock.handshake()
    except BlockingIOError:
        return False
    except WireError as error:
        return Ended(End.TLS, error.why)
    except ConnectionAbortedError:
        return Ended(End.EOF, "FIN")
    except OSError as error:
        return Ended.by(error)
    return True
