"""Free loopback ports that stay free while a server is down."""

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
# Below Linux's ephemeral range (32768 and up): a port out of that range may be taken by any outgoing connection, even
# by a client's retry, while its server is being restarted.
_PORT_MIN: Final = 20_000
_PORT_MAX: Final = 32_000
_TRIES_MAX: Final = 200  # with even half of the 12,000 ports taken, 200 misses in a row do not happen

_random = random.SystemRandom()  # two processes that start together must not try the same ports
_given: set[int] = set()


def unused_port() -> int:
    """An unused loopback TCP port outside of the ephemeral range, a different one at each call of a process.

    Raises OSError if none is found.
    """
    for _ in range(_TRIES_MAX):
        port = _random.randint(_PORT_MIN, _PORT_MAX)
        if port in _given:
            continue  # its server may not listen yet
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise OSError(f"no free loopback port between {_PORT_MIN} and {_PORT_MAX}")
