"""Public ids of sessions, computed from their keys: every process and every replay arrives at the same."""

from uuid import UUID, uuid5

_NAMESPACE = UUID("6f9f1f0e-7d0b-4a57-9b70-5a0c7f2d7c11")


def session_uuid(session_key: int) -> UUID:
    """voltstream's id of a session."""
    return uuid5(_NAMESPACE, str(session_key))
