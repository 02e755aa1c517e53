"""Signatures of webhooks, as the Standard Webhooks specification has them. Apart from the channel: whoever shows a
secret needs no HTTP client.
"""

import hashlib
import hmac
from base64 import b64encode
from typing import Final

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # public


def secret_of(key: str, subject: str) -> bytes:
    """The signing secret of a recipient, 32 bytes: derived, so none is stored."""
    return hmac.digest(key.encode(), f"webhook/{subject}".encode(), hashlib.sha256)


def shown_secret(key: str, subject: str) -> str:
    """The secret as libraries of Standard Webhooks take it."""
    return _SECRET_PREFIX + b64encode(secret_of(key, subject)).decode()


def signature_of(secret: bytes, id_: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    signed = hmac.digest(secret, f"{id_}.{timestamp_s}.".encode() + body, hashlib.sha256)
    return f"v1,{b64encode(signed).decode()}"
