"""The end of a server's listening, such that no connection that was made is lost.

The kernel makes connections before the process accepts them: whoever closes a listening socket resets those that wait,
with the requests that may be in them. So new ones are kept from being made first, by a filter of the socket that drops
their first packet; those that wait are accepted, and only then it is closed. Whose packet was dropped sends it again
after a second, finds nobody listening, and knows that nothing of its request was taken: a proxy asks another server.
"""

import asyncio
import ctypes
import socket
import struct
import sys
from typing import Final

# For handshakes that have begun, and for the loop to accept what waits: networks of one site answer within 5 ms.
_HANDSHAKES_S: Final = 0.1
_SO_ATTACH_FILTER: Final = 26  # socket(7); not in Python's module
# Classic BPF: code, jump if true, jump if false, operand. A packet begins with TCP's header; its octet 13 is the flags.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags
    (0x45, 1, 0, 0x02),  # SYN?
    (0x06, 0, 0, 0xFFFF_FFFF),  # no: take all of it
    (0x06, 0, 0, 0),  # yes: nothing of it
)


async def make_no_more_connections(listeners: "list[socket.socket]") -> None:
    """Return when all connections to these sockets are accepted and none is made any more; close them then.

    Elsewhere than on Linux those that come meanwhile are made, and may be lost.
    """
    if sys.platform == "linux":
        for listener in listeners:
            _drop_syns(listener)
    await asyncio.sleep(_HANDSHAKES_S)


def _drop_syns(listener: socket.socket) -> None:
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    kept = ctypes.create_string_buffer(program, len(program))  # until the kernel has copied it
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(kept)))
